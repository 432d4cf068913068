"""Metrics of image translation between two sites."""
