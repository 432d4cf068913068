"""Calibrated regions of explained samples, and their table."""
