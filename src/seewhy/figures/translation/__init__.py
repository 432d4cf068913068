"""Figures and tables of image translation."""
