"""The page of a comparison: one HTML file generated from stored results."""
