"""Weakly supervised."""
