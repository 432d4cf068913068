"""Callbacks of volume segmentation and of streamed predictions."""
