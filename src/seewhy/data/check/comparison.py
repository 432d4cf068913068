"""What only shows when slices are compared: duplicates, sizes, classes, masks that lack."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from seewhy.data.check.report import Finding, error, warning
from seewhy.data.check.scan import Scanned

__all__ = ["class_findings", "duplicate_findings", "mask_findings", "patient_findings", "size_findings"]

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
