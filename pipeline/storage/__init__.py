"""Storage of results: published files, fingerprints, HDF5, and the layout of the data folder."""
