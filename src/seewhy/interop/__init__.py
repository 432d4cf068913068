"""Weights and models of other software."""
