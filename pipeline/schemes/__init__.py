"""The training function of each scheme."""
