"""Compare the slices of a data set with each other and with manifest.csv: duplicates, sizes, classes, missing masks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from seewhy.data.check.report import Finding, error, warning
from seewhy.data.check.scan import ScannedSlice
from seewhy.data.patients import report_spellings
from seewhy.errors import DataError
from seewhy.io.documents import CsvTable, read_csv

__all__ = [
    "check_classes",
    "check_duplicates",
    "check_manifest",
    "check_masks",
    "check_patients",
    "check_sizes",
    "read_manifest_patients",
]

RARE = 0.05
"""A class with a smaller share of slices is rare."""
FEW_PATIENTS = 3
"""Training, validation and test need one patient each."""
REMEDY = "prepare the data set again, or correct the manifest"


def check_duplicates(slices: Iterable[ScannedSlice], part_of: Mapping[str, str]) -> list[Finding]:
    """Report slices with exactly the same content.

    Args:
        slices: all slices.
        part_of: file name → part of the split; empty without a split.
    """
    groups: dict[bytes, list[ScannedSlice]] = defaultdict(list)
    for item in slices:
        if item.digest is not None:
            groups[item.digest].append(item)
    findings = []
    for first, *others in groups.values():
        for other in others:
            parts = {part_of.get(first.name), part_of.get(other.name)} - {None}
            if len(parts) == 2:
                listed = " and ".join(sorted(map(str, parts)))
                message = f"same content as {first.name}, which is in another part of the split ({listed})"
                remedy = "a model is not tested by a slice that it was trained on: keep one of the two"
                findings.append(error("duplicate", other.name, message, remedy))
            elif other.patient != first.patient:
                message = f"same content as {first.name} of another patient"
                remedy = "a split by patient cannot separate them: keep one, or assign both to one patient"
                findings.append(error("duplicate", other.name, message, remedy))
            else:
                message = f"same content as {first.name}"
                findings.append(warning("duplicate", other.name, message, "keep one of the two"))
    return findings


def check_sizes(slices: Iterable[ScannedSlice]) -> list[Finding]:
    """Report sizes that differ within a patient, or between patients."""
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


def check_patients(slices: Iterable[ScannedSlice]) -> list[Finding]:
    """Report slice numbers that occur twice in a patient, patients written in two ways, and too few patients."""
    seen: dict[tuple[str, int], str] = {}
    patients = set()
    findings = []
    for item in slices:
        patients.add(item.patient)
        if item.slice is None:
            continue
        key = (item.patient, item.slice)
        if key in seen:
            message = f"slice {item.slice} of {item.patient} occurs twice, also as {seen[key]}"
            findings.append(error("slice-twice", item.name, message, "keep one of the two"))
        seen.setdefault(key, item.name)
    remedy = "correct the names of the files, or the column patient of manifest.csv"
    findings += [error("patients", "all slices", message, remedy) for message in report_spellings(sorted(patients))]
    if 0 < len(patients) < FEW_PATIENTS:
        message = f"{len(patients)} patient(s) cannot be split into training, validation and test"
        findings.append(warning("patients", "all slices", message, "add patients, or check how the files are named"))
    return findings


def check_classes(labels: Counter[int], where: str, *, trains: bool) -> list[Finding]:
    """Report classes that are absent or rare.

    Args:
        labels: label → slices.
        where: the data set or a part of the split.
        trains: whether a classifier learns from these slices (else they are only scored).
    """
    total = sum(labels.values())
    if total == 0:
        return []
    if len(labels) == 1:
        label = next(iter(labels))
        if trains:
            message = f"all {total} slices have label {label}: one class cannot train a classifier"
            return [error("classes", where, message, "add slices of another label")]
        message = f"all {total} slices have label {label}, so AUROC is undefined"
        return [warning("classes", where, message, "choose other patients for this part")]
    return [
        warning("classes", where, f"label {label} has {count} of {total} slices", "sample it more often, or add slices")
        for label, count in sorted(labels.items())
        if count < RARE * total
    ]


def check_masks(
    slices: Sequence[ScannedSlice], missing: Sequence[str], orphans: Sequence[str], masks: bool
) -> list[Finding]:
    """Report masks that are missing, belong to no slice, or contain values that are not labels.

    Args:
        slices: all slices.
        missing: names of slices without a mask.
        orphans: names of masks without a slice.
        masks: whether the data set has a folder of masks.
    """
    if not masks:
        message = "no folder maskSlice/: training works without it, but Dice and AUPRC cannot be computed"
        return [warning("mask-missing", "all slices", message, "add masks of the same names for the test patients")]
    findings = [
        warning("mask-missing", name, "no mask of this name", "add the mask, otherwise its patient cannot be scored")
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
            f"contains the value {item.highest}; expected classes 0 to {allowed}, as in the labels",
            "store class indices, e.g. 1 instead of 255",
        )
        for item in slices
        if item.highest is not None and item.highest > allowed
    ]
    return findings


def read_manifest_patients(path: Path) -> dict[str, str]:
    """Read file name → patient from the manifest; empty if it names no patients or is unreadable."""
    try:
        return {row["file"]: row["patient"] for row in read_csv(path).rows if row.get("file") and row.get("patient")}
    except DataError:
        return {}


def check_manifest(path: Path, slices: Mapping[str, ScannedSlice], present: set[str]) -> list[Finding]:
    """Compare manifest.csv with the files, row by row.

    Args:
        path: the manifest; if it is missing, nothing is compared.
        slices: file name → scanned slice.
        present: names of all files, including unreadable ones.
    """
    if not path.exists():
        return []
    try:
        return list(_compare_rows(read_csv(path), slices, present))
    except DataError as problem:
        return [error("manifest", path.name, f"cannot be read: {problem}", REMEDY)]


def _compare_rows(table: CsvTable, slices: Mapping[str, ScannedSlice], present: set[str]) -> Iterator[Finding]:
    if "file" not in table.columns:
        columns = ", ".join(table.columns or ["none"])
        yield error("manifest", "manifest.csv", f"has no column 'file'; its columns are {columns}", REMEDY)
        return
    seen: dict[str, int] = {}
    sources: set[str] = set()
    for number, row in zip(table.numbers, table.rows, strict=True):
        name, where = row["file"], f"manifest.csv, line {number}"
        if name in seen:
            yield error("manifest", where, f"{name} is listed twice, also in line {seen[name]}", REMEDY)
        seen.setdefault(name, number)
        if name not in present:
            yield error("manifest", where, f"{name} is not in the folder", REMEDY)
        elif name in slices:
            yield from _compare_row(row, slices[name], where)
        sources.add(row.get("source") or "")
    for name in sorted(present - seen.keys()):
        yield error("manifest", name, "the file is not in manifest.csv (was a preparation interrupted?)", REMEDY)
    for source in sorted(sources - {""}):
        if not Path(source).exists():
            message = "the source volume of these slices does not exist on this machine"
            yield warning("source", source, message, "predictions cannot be written back to it; correct the path")


def _compare_row(row: Mapping[str, str], item: ScannedSlice, where: str) -> Iterator[Finding]:
    """Compare one row with its file."""
    stated = {"patient": item.patient, "slice": item.slice, "label": item.label, "area": item.area}
    for column, value in stated.items():
        if row.get(column) and value is not None and not _equals(row[column], value):
            message = f"{column} is {row[column]!r}, but {value} in {item.name}"
            yield error("manifest", where, message, REMEDY)


def _equals(text: str | None, value: object) -> bool:
    if isinstance(value, int):
        try:
            return math.isclose(float(text or "nan"), value)
        except ValueError:
            return False
    return text == value
