"""Findings about the data from a run and cached features: label errors, near-duplicates, hard images."""
