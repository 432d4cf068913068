"""Cells of CSV files that a spreadsheet would run as formulas: mark them when writing, remove the mark when reading."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["protect_cell", "unprotect_cell"]

FORMULA = re.compile(r"'*[=+@\t\r\-]")
"""Beginning of a formula in Excel and LibreOffice, also behind marks that are part of the text."""


def protect_cell(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run; numbers and other text stay as they are.

    Spreadsheets show the text without running it. `unprotect_cell` gives the original text back, always.

    Example:
        >>> [protect_cell(value) for value in ("=HYPERLINK(…)", "-x", "-1.5", -2, "P01")]
        ["'=HYPERLINK(…)", "'-x", '-1.5', -2, 'P01']
    """
    if not isinstance(value, str) or not FORMULA.match(value) or (value[0] == "-" and _is_number(value)):
        return value
    return f"'{value}"


def unprotect_cell(text: str) -> str:
    """Remove the apostrophe of `protect_cell`.

    Example:
        >>> unprotect_cell("'=1+1"), unprotect_cell("'quoted'")
        ('=1+1', "'quoted'")
    """
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
