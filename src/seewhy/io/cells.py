"""Cells of CSV files that a spreadsheet would run as formulas: mark them when writing, remove the mark when reading."""

from __future__ import annotations

from seewhy_run.names import protect_cell, unprotect_cell

__all__ = ["protect_cell", "unprotect_cell"]
