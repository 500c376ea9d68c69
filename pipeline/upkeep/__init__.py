"""Maintenance of the data folder: inventory, verification, cleaning and cost estimates."""
