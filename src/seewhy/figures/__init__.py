"""Figures, tables and the report, made from plain arrays and numbers, without torch."""
