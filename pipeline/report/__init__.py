"""Plots, reports and pages, generated from stored results."""
