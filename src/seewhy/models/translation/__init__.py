"""Unpaired translation between two scanners."""
