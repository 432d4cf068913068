"""What only shows when slices are compared: duplicates, sizes, classes, masks that lack.

A split against the data set it is to divide.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seewhy.data.check.report import Finding, error, warning
from seewhy.data.check.scan import Scanned
from seewhy.data.splits import split_by_index
from seewhy.errors import ConfigError

__all__ = [
    "Partition",
    "class_findings",
    "duplicate_findings",
    "mask_findings",
    "part_findings",
    "partition",
    "patient_findings",
    "size_findings",
]

RARE = 0.05
"""Share of slices below which a class is called rare."""
FEW_PATIENTS = 3
"""Training, validation and test need one patient each."""


def duplicate_findings(slices: Iterable[Scanned], part_of: Mapping[str, str]) -> list[Finding]:
    """Slices with exactly the same content.

    Args:
        slices: all slices.
        part_of: file name → part of the split; empty without a split.
    """
    same: dict[bytes, list[Scanned]] = defaultdict(list)
    for item in slices:
        if item.digest is not None:
            same[item.digest].append(item)
    findings = []
    for first, *others in same.values():
        for other in others:
            parts = {part_of.get(first.name), part_of.get(other.name)} - {None}
            if len(parts) == 2:
                message = f"same content as {first.name}, which is in another part of the split ({_listed(parts)})"
                remedy = "a test slice that was trained on proves nothing: keep one of the two"
                findings.append(error("duplicate", other.name, message, remedy))
            elif other.patient != first.patient:
                message = f"same content as {first.name} of another patient"
                remedy = "a split by patient cannot keep them apart: keep one, or give both one patient"
                findings.append(error("duplicate", other.name, message, remedy))
            else:
                message = f"same content as {first.name}"
                findings.append(warning("duplicate", other.name, message, "keep one of the two"))
    return findings


def size_findings(slices: Iterable[Scanned]) -> list[Finding]:
    """Sizes that differ within a patient, or between patients."""
    sizes: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for item in slices:
        if item.shape is not None:
            sizes[item.patient][item.shape] += 1
    findings = []
    for patient, counts in sizes.items():
        if len(counts) > 1:
            shown = ", ".join(f"{rows}x{columns} ({count})" for (rows, columns), count in counts.most_common(4))
            message = f"slices of different sizes: {shown}"
            findings.append(error("shape", patient, message, "give all slices of a patient one size"))
    usual = Counter(counts.most_common(1)[0][0] for counts in sizes.values())
    if len(usual) > 1:
        shown = ", ".join(f"{rows}x{columns} ({count} patients)" for (rows, columns), count in usual.most_common(4))
        findings.append(warning("shape", "all slices", f"several sizes: {shown}", "train with data.crop_size=…"))
    return findings


def patient_findings(slices: Iterable[Scanned]) -> list[Finding]:
    """A slice number that a patient has twice, and too few patients."""
    seen: dict[tuple[str, int], str] = {}
    patients = set()
    findings = []
    for item in slices:
        patients.add(item.patient)
        if item.slice is None:
            continue
        key = (item.patient, item.slice)
        if key in seen:
            message = f"slice {item.slice} of {item.patient} is there twice, also as {seen[key]}"
            findings.append(error("slice-twice", item.name, message, "keep one; two labels cannot both be right"))
        seen.setdefault(key, item.name)
    if 0 < len(patients) < FEW_PATIENTS:
        message = f"{len(patients)} patient(s) cannot be split into training, validation and test"
        findings.append(warning("patients", "all slices", message, "add patients, or check how they are named"))
    return findings


def class_findings(labels: Counter[int], where: str, *, trains: bool) -> list[Finding]:
    """Classes that are absent or rare.

    Args:
        labels: label → slices.
        where: the data set, or a part of the split.
        trains: whether a classifier is to learn from it (else it is only scored on it).
    """
    total = sum(labels.values())
    if total == 0:
        return []
    if len(labels) == 1:
        label = next(iter(labels))
        if trains:
            message = f"all {total} slices have label {label}: one class cannot train a classifier"
            return [error("classes", where, message, f"add slices with {'a lesion' if label == 0 else 'no lesion'}")]
        message = f"all {total} slices have label {label}, so AUROC is undefined"
        return [warning("classes", where, message, "choose other patients for this part")]
    return [
        warning("classes", where, f"label {label} has {count} of {total} slices", "sample it more often, or add some")
        for label, count in sorted(labels.items())
        if count < RARE * total
    ]


def mask_findings(
    slices: Sequence[Scanned], missing: Sequence[str], orphans: Sequence[str], masks: bool
) -> list[Finding]:
    """Masks that lack, belong to no slice, or hold values that no label has.

    Args:
        slices: all slices.
        missing: slices without a mask.
        orphans: masks without a slice.
        masks: whether there is a folder of masks at all.
    """
    if not masks:
        message = "there is no maskSlice/: training needs none, but Dice and AUPRC cannot be computed"
        return [warning("mask-missing", "all slices", message, "add masks of the same names for the test patients")]
    findings = [
        warning("mask-missing", name, "no mask of this name", "add it, or its patient cannot be scored")
        for name in missing
    ]
    findings += [
        warning("mask-orphan", f"maskSlice/{name}", "no slice of this name", "rename or delete it") for name in orphans
    ]
    allowed = max([1, *(item.label for item in slices)])
    findings += [
        error(
            "mask-values",
            f"maskSlice/{item.name}",
            f"the value {item.highest}, but the labels know classes 0 to {allowed}",
            "store class indices, e.g. 1 instead of 255",
        )
        for item in slices
        if item.highest is not None and item.highest > allowed
    ]
    return findings


def _listed(parts: set[str | None]) -> str:
    return " and ".join(sorted(str(part) for part in parts))


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
        split = split_by_index(patient_of, slice_split=slice_split)
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
