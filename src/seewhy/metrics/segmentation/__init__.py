"""Metrics of segmentation: maps of slices and segmented volumes."""
