"""Find patients that are written in two ways, e.g. 007 and 7, of which a split would make two people."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["find_spellings", "report_spellings"]


def find_spellings(names: Iterable[str]) -> list[list[str]]:
    """Find names that differ in capitals, leading zeros, blanks or dashes only, or by the `.0` of spreadsheets.

    Args:
        names: of patients, in any number.

    Returns:
        Groups of two or more spellings, each in the order of their first appearance.

    Example:
        >>> find_spellings(["101", "P01", "7", "101.0", "p1", "8"])
        [['101', '101.0'], ['P01', 'p1']]
    """
    groups: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        groups[_normalize(name)][name] = None
    return [list(group) for group in groups.values() if len(group) > 1]


def report_spellings(names: Iterable[str]) -> list[str]:
    """Report patients that are written in several ways, one message each."""
    return [
        f"one patient is written in several ways ({', '.join(map(repr, group))}), so that a split could train and test "
        "on it; write it in one way, or rename one of them if they are different people"
        for group in find_spellings(names)
    ]


def _normalize(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    text = re.sub(r"[\s_-]+", "-", text)
    return re.sub(r"\d+", lambda match: match[0].lstrip("0") or "0", text)
