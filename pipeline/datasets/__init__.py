"""Data sets as uint8 images, int64 labels, names and one split."""
