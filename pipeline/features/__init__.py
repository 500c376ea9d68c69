"""The feature cache: a frozen backbone's activations for every image, in HDF5 shards."""
