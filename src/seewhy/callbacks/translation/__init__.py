"""Callbacks of translations between scanners."""
