"""Batches from files: data sets, splits, intensity, checks."""
