"""Names as parts of paths, natural order of names, and cells that a spreadsheet would run as formulas."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

__all__ = ["natural_key", "protect_cell", "safe_name", "unprotect_cell"]

FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"/\\|?*]+')
"""Separators of folders, control characters, halves of surrogate pairs, and what Windows does not allow."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that are devices on Windows, with any ending."""
MAX_BYTES = 160
"""Longest name, of the 255 bytes that file systems allow; the rest is for what writers add to it."""
FORMULA = re.compile(r"'*[=+@\t\r\-]")
"""Beginning of a formula in Excel and LibreOffice, also behind marks that are part of the text."""


def safe_name(name: str) -> str:
    """Make a name that is one part of a path on every file system; safe names stay as they are.

    Characters that no file system, or not every one, allows become `_`; blanks and dots at the ends are removed. A
    name that is too long keeps its beginning and ends in a hash of all of it. Making a safe name safe changes nothing.

    Args:
        name: e.g. of a patient, as a table gives it.

    Example:
        >>> safe_name("P 01"), safe_name("../../etc/passwd"), safe_name("nul")
        ('P 01', '_.._etc_passwd', '_nul')
    """
    text = FORBIDDEN.sub("_", name).strip(" .") or "unnamed"
    text = f"_{text}" if RESERVED.fullmatch(text) else text
    if len(text.encode()) <= MAX_BYTES:
        return text
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    start = text.encode()[: MAX_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{start}-{digest}"


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorting key that puts `slice_10` after `slice_2`.

    Example:
        >>> sorted(["slice_10.npy", "slice_2.npy"], key=natural_key)
        ['slice_2.npy', 'slice_10.npy']
    """
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


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
