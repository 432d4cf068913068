"""Figures of volumes."""
