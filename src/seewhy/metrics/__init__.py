"""Metrics of segmentation, classification and translation, their floors, and intervals over patients."""
