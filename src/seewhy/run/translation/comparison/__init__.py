"""Comparison of several translation runs on travelling heads."""
