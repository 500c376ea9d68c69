"""Searches for settings: sweeps of heads, resumable Optuna studies, and the recipes that they produce."""
