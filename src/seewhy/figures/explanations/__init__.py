"""Figures and tables of explanations."""
