"""Volumes larger than memory: predicted in one pass with flat memory, resumable, the same bytes however split."""
