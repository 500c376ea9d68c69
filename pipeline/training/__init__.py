"""Recipes, the training loop, and the three schemes that use it."""
