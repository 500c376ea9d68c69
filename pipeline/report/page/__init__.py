"""The page of a comparison: one HTML file made of stored results, for people to open and to show."""
