"""Samples for a network from elsewhere, from files or from a loader."""
