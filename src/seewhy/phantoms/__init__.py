"""Synthetic patients, written in the real on-disk formats."""
