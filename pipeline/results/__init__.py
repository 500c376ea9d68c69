"""Scores, statistics and comparisons, computed from the stored results of runs."""
