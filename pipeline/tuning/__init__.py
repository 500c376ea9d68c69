"""Searches for the settings of a training: spaces, studies that outlive a kill, recipes that they leave."""
