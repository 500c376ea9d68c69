"""The feature cache: what a frozen backbone saw in every image, in HDF5 shards."""
