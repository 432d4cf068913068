"""A split against the data set it is to divide."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seewhy.data.check.comparison import class_findings
from seewhy.data.check.report import Finding, error, warning
from seewhy.data.check.scan import Scanned
from seewhy.data.splits import split_by_index
from seewhy.errors import ConfigError

__all__ = ["Partition", "part_findings", "partition"]

PARTS = ("train", "val", "test")
Partition = tuple[dict[str, str], list[Finding]]
"""(file name → part, problems)."""


def partition(slices: Sequence[Scanned], *, split: str | Path | None, slice_split: Sequence[int] | None) -> Partition:
    """Which part of the split each file belongs to; nothing where no split is given.

    Args:
        slices: all slices.
        split: a split.json.
        slice_split: the reference's split by position instead, [v0, v1].
    """
    if split is not None:
        return _stored_partition(slices, Path(split))
    if slice_split is not None:
        return _index_partition(slices, slice_split)
    return {}, []


def _stored_partition(slices: Sequence[Scanned], path: Path) -> Partition:
    """The split of a split.json: lists `train`, `val` and `test` of patients."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        lists = {part: [str(patient) for patient in record[part]] for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        message = f"no readable split ({type(problem).__name__}: {problem}); expected lists train, val and test"
        return {}, [error("split", path, message, "give the split.json of a run")]
    patients = {item.patient for item in slices}
    part_of: dict[str, str] = {}
    findings = []
    for part, names in lists.items():
        for name in names:
            if name not in patients:
                message = f"patient {name!r} ({part}) is not in the data set"
                findings.append(error("split", path, message, "give the split of this data set"))
            elif part_of.setdefault(name, part) != part:
                message = f"patient {name!r} is cut: in {part_of[name]} and in {part}"
                findings.append(error("split", path, message, "keep each patient in one part"))
    outside = sorted(patients - part_of.keys())
    if outside:
        message = f"{len(outside)} patient(s) are in no part, e.g. {outside[0]!r}"
        findings.append(warning("split", path, message, "they will not be used; add them to a part"))
    return {item.name: part_of[item.patient] for item in slices if item.patient in part_of}, findings


def _index_partition(slices: Sequence[Scanned], slice_split: Sequence[int]) -> Partition:
    """The reference's split by position in the sorted list of files."""
    patient_of = {item.name: item.patient for item in slices}
    try:
        split = split_by_index(list(patient_of), patient_of.__getitem__, slice_split=slice_split)
    except ConfigError as problem:
        return {}, [error("split", "slice_split", str(problem), "take positions between two patients")]
    part_of = {patient: part for part in PARTS for patient in split.part(part)}
    return {item.name: part_of[item.patient] for item in slices}, []


def part_findings(
    slices: Sequence[Scanned], part_of: dict[str, str]
) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """Counts of each part, and classes that are absent or rare in it."""
    counts: dict[str, dict[str, int]] = {}
    findings: list[Finding] = []
    for part in PARTS if part_of else ():
        chosen = [item for item in slices if part_of.get(item.name) == part]
        labels = Counter(item.label for item in chosen)
        counts[part] = {"patients": len({item.patient for item in chosen}), "slices": len(chosen)}
        counts[part] |= {f"label {label}": count for label, count in sorted(labels.items())}
        findings += class_findings(labels, part, trains=part == "train")
        if part == "train" and not chosen:
            findings.append(error("split", part, "no slice is left for training", "give train some patients"))
    return counts, findings
