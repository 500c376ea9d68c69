"""How results are stored: published files, fingerprints, HDF5, and the layout of the data folder."""
