"""Which input size, layers and cut suit a data set: measured on a subset, chosen by a rule."""
