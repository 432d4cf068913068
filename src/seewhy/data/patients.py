"""Find patients that are written in two ways, e.g. 007 and 7, of which a split would make two people."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["find_spellings", "report_spellings", "warn_of_divided_scans"]


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


def warn_of_divided_scans(part_of: Mapping[str, str]) -> None:
    """Warn of patients of BraTS whose scans of several days count as patients and are in several parts of a split.

    Args:
        part_of: patient → part; `BraTS-GLI-00008-001` is the second scan of `BraTS-GLI-00008`.
    """
    scans: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, part in part_of.items():
        match = re.fullmatch(r"(BraTS-[A-Z]+-\d+)-\d{3}", name, re.IGNORECASE)
        if match is not None:
            scans[match[1]][name] = part
    divided = [own for own in scans.values() if len(set(own.values())) > 1]
    if divided:
        from lightning.pytorch.utilities import rank_zero_warn  # `seewhy check` runs without torch

        listed = ", ".join(f"{scan} in {part}" for scan, part in divided[0].items())
        rank_zero_warn(
            f"{len(divided)} patients have scans in several parts of the split, e.g. {listed}: set "
            "data.patient_pattern where the data set has it, name the scans of each part (data.test_patients …), or "
            "leave later scans out"
        )


def _normalize(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    text = re.sub(r"[\s_-]+", "-", text)
    return re.sub(r"\d+", lambda match: match[0].lstrip("0") or "0", text)
