"""Classifiers on cached features: the kinds of head, and sweeps over their settings."""
