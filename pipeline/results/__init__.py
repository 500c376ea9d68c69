"""Scores, plots and comparisons, all derived from what runs stored."""
