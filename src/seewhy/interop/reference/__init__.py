"""Checkpoints of reference systems."""
