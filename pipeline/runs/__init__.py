"""A training run: its specification, its folder, its costs."""
