"""People behind patient names: names written in two ways, e.g. 007 and 7, and scans of several days of BraTS."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["find_person", "find_spellings", "group_scans", "report_spellings", "warn_of_divided_scans"]


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


def find_person(name: str) -> str:
    """Find the person of a scan by the scheme of BraTS since 2023, `BraTS-GLI-<person>-<time>`; other names are people.

    Example:
        >>> find_person("BraTS-GLI-00005-001"), find_person("BraTS-GLI-00005"), find_person("P12-001")
        ('BraTS-GLI-00005', 'BraTS-GLI-00005', 'P12-001')
    """
    match = re.fullmatch(r"(BraTS-[A-Z]+-\d+)-\d{3}", name, re.IGNORECASE)
    return name if match is None else match[1]


def group_scans(names: Iterable[str]) -> dict[str, list[str]]:
    """Group scans by person: the first scan of each person → all of its scans, in the given order.

    Example:
        >>> group_scans(["BraTS-GLI-00005-000", "P1", "BraTS-GLI-00005-001"])
        {'BraTS-GLI-00005-000': ['BraTS-GLI-00005-000', 'BraTS-GLI-00005-001'], 'P1': ['P1']}
    """
    people: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        people[find_person(name)].append(name)
    return {scans[0]: scans for scans in people.values()}


def warn_of_divided_scans(part_of: Mapping[str, str]) -> None:
    """Warn of people whose scans of several days are in several parts of a split; only splits by name have that.

    Args:
        part_of: scan → part; `BraTS-GLI-00008-001` is the second scan of `BraTS-GLI-00008`.
    """
    scans: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, part in part_of.items():
        scans[find_person(name)][name] = part
    divided = [own for own in scans.values() if len(set(own.values())) > 1]
    if divided:
        from lightning.pytorch.utilities import rank_zero_warn  # `seewhy check` runs without torch

        listed = ", ".join(f"{scan} in {part}" for scan, part in divided[0].items())
        rank_zero_warn(
            f"{len(divided)} patients have scans in several parts of the split, e.g. {listed}: put all scans of a "
            "person into one part"
        )


def _normalize(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    text = re.sub(r"[\s_-]+", "-", text)
    return re.sub(r"\d+", lambda match: match[0].lstrip("0") or "0", text)
