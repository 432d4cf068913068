"""Check one slice data set: scan every file, compare the slices, and check them against a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seewhy.data.check.comparison import (
    check_classes,
    check_duplicates,
    check_manifest,
    check_masks,
    check_patients,
    check_sizes,
    read_manifest_patients,
)
from seewhy.data.check.report import Finding, Report, error, warning
from seewhy.data.check.scan import ScannedSlice, scan_slice
from seewhy.data.dataset_info import read_info, read_split_file
from seewhy.data.slices.cutting import LabelRule
from seewhy.data.slices.files import BRATS, LASC, Naming, npy_names
from seewhy.data.splits import PARTS, split_by_index
from seewhy.errors import ConfigError, DataError
from seewhy.io.slices import IMAGES, MASKS
from seewhy.sharing.pool import map_in_processes

__all__ = ["check_dataset"]

PartOf = dict[str, str]
"""File name → part of the split."""


def check_dataset(
    root: str | Path,
    *,
    split: str | Path | None = None,
    slice_split: Sequence[int] | None = None,
    naming: Naming | None = None,
    progress: bool = False,
    jobs: int = 1,
) -> Report:
    """Check a slice data set; every file is read once, and only statistics stay in memory.

    Errors: unreadable or pickled files, NaN and infinite values, shapes that are not a slice or differ within a
    patient, names without an integer label, labels that contradict masks, masks of another shape, exact duplicates
    across patients or parts of the split, repeated slice numbers, a manifest that contradicts the files, patients in
    two parts of the split, a single class. Warnings: constant slices, missing masks, rare classes, several sizes,
    few patients, missing source volumes.

    Args:
        root: the folder with `imageSlice/` (or that folder).
        split: a split.json to check against the data.
        slice_split: the reference's split by position instead, [v0, v1].
        naming: pattern of file names; None chooses between `BRATS_…` and other names, for which a manifest may name the
            patients.
        progress: show a bar on stderr.
        jobs: processes that read files.

    Returns:
        The report; a missing or empty folder is an error in it, too.

    Raises:
        ConfigError: both `split` and `slice_split` are given.

    Example:
        >>> from seewhy.data.check import check_dataset
        >>> from seewhy.phantoms.slices import write_tumour_phantom
        >>> report = check_dataset(write_tumour_phantom("tumour", patients=4, slices=4, size=32))
        >>> report.ok, report.counts["patients"], report.counts["masks"]
        (True, 4, 16)
    """
    if split is not None and slice_split is not None:
        raise ConfigError("give either split or slice_split, not both")
    root = Path(root)
    report = Report(root.parent if root.name == IMAGES else root)
    images = report.root / IMAGES
    images = images if images.is_dir() else report.root
    names = npy_names(images)
    if not names:
        message = f"no .npy slices in {images}" if images.is_dir() else "the folder does not exist"
        report.add([error("missing", root, message, "give the folder that contains imageSlice/")])
        return report
    naming = naming or (BRATS if any(name.startswith("BRATS_") for name in names) else LASC)
    slices = _scan_all(report, images, names, naming, progress=progress, jobs=jobs)
    part_of, findings = _assign_parts(slices, split=split, slice_split=slice_split)
    report.add(findings)
    _add_comparisons(report, slices, part_of, names)
    return report


def _scan_all(
    report: Report, images: Path, names: Sequence[str], naming: Naming, *, progress: bool, jobs: int
) -> list[ScannedSlice]:
    """Scan every file and its mask once."""
    description: dict[str, Any] = {}
    try:
        description = read_info(report.root / "dataset.json")
    except (DataError, OSError) as problem:
        report.add([error("description", "dataset.json", str(problem), "correct it or delete it")])
    automatic = description.get("automatic_masks") or []
    if automatic:
        message = f"the masks of {len(automatic)} patient(s) were made by software, e.g. {automatic[0]}"
        remedy = "state this next to every score, or test on patients whose masks an expert drew"
        report.add([warning("automatic-masks", "dataset.json", message, remedy)])
    rule = LabelRule.from_record(description)
    modalities = len(description.get("modalities") or [""])
    masks = report.root / MASKS
    with_mask = set(npy_names(masks))
    slices: list[ScannedSlice] = []
    # A name like <name>_<label>.npy does not name the patient; the manifest does, as in training.
    patients = read_manifest_patients(report.root / "manifest.csv") if naming is LASC else {}
    scanned = map_in_processes(
        lambda name: scan_slice(
            images / name, masks / name if name in with_mask else None, naming, rule, modalities=modalities
        ),
        names,
        f"checking {report.root.name}",
        jobs=jobs,
        shown=progress,
    )
    for name, (item, findings) in zip(names, scanned, strict=True):
        report.add(findings)
        if item is not None:
            slices.append(replace(item, patient=patients.get(name, item.patient)))
    missing = [item.name for item in slices if item.name not in with_mask]
    report.add(check_masks(slices, missing, sorted(with_mask - set(names)), masks.is_dir()))
    strange = sorted(path.name for path in images.iterdir() if path.name[0] != "." and path.suffix != ".npy")
    if images.name == IMAGES and strange:
        message = f"{len(strange)} file(s) are not .npy, e.g. {strange[0]}"
        report.add([warning("name", images.name, message, "they are not read; move them elsewhere")])
    return slices


def _add_comparisons(report: Report, slices: list[ScannedSlice], part_of: PartOf, names: Sequence[str]) -> None:
    """Add the findings that need more than one file, and the counts."""
    labels = Counter(item.label for item in slices)
    report.add(check_manifest(report.root / "manifest.csv", {item.name: item for item in slices}, set(names)))
    report.add(check_duplicates(slices, part_of))
    report.add(check_sizes(slices))
    report.add(check_patients(slices))
    report.add(check_classes(labels, "all slices", trains=True))
    parts, findings = _check_parts(slices, part_of)
    report.add(findings)
    report.counts = {
        "files": len(names),
        "patients": len({item.patient for item in slices}),
        "labels": {str(label): count for label, count in sorted(labels.items())},
        "masks": sum(item.area is not None for item in slices),
    }
    if parts:
        report.counts["parts"] = parts


def _assign_parts(
    slices: Sequence[ScannedSlice], *, split: str | Path | None, slice_split: Sequence[int] | None
) -> tuple[PartOf, list[Finding]]:
    """Assign each file to its part of the split; empty if no split is given.

    Args:
        slices: all slices.
        split: a split.json.
        slice_split: the reference's split by position instead, [v0, v1].
    """
    if split is not None:
        return _read_split(slices, Path(split))
    if slice_split is not None:
        return _split_by_index(slices, slice_split)
    return {}, []


def _read_split(slices: Sequence[ScannedSlice], path: Path) -> tuple[PartOf, list[Finding]]:
    """Assign files by a split.json with the lists `train`, `val` and `test` of patients."""
    try:
        lists, _ = read_split_file(path)
    except DataError as problem:
        message = f"not a readable split ({problem}); expected lists train, val and test"
        return {}, [error("split", path, message, "give the split.json of a run")]
    patients = {item.patient for item in slices}
    part_of: PartOf = {}
    findings = []
    for part, names in lists.items():
        for name in names:
            if name not in patients:
                message = f"patient {name!r} ({part}) is not in the data set"
                findings.append(error("split", path, message, "give the split of this data set"))
            elif part_of.setdefault(name, part) != part:
                message = f"patient {name!r} is in two parts: {part_of[name]} and {part}"
                findings.append(error("split", path, message, "keep each patient in one part"))
    outside = sorted(patients - part_of.keys())
    if outside:
        message = f"{len(outside)} patient(s) are in no part, e.g. {outside[0]!r}"
        findings.append(warning("split", path, message, "they will not be used unless you add them to a part"))
    return {item.name: part_of[item.patient] for item in slices if item.patient in part_of}, findings


def _split_by_index(slices: Sequence[ScannedSlice], slice_split: Sequence[int]) -> tuple[PartOf, list[Finding]]:
    """Assign files by the reference's split, by position in the sorted list of files."""
    patient_of = {item.name: item.patient for item in slices}
    try:
        split = split_by_index(patient_of, slice_split=slice_split)
    except ConfigError as problem:
        return {}, [error("split", "slice_split", str(problem), "take positions between two patients")]
    part_of = {patient: part for part in PARTS for patient in split.part(part)}
    return {item.name: part_of[item.patient] for item in slices}, []


def _check_parts(slices: Sequence[ScannedSlice], part_of: PartOf) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """Count patients, slices and labels of each part, and report classes that are absent or rare in it."""
    counts: dict[str, dict[str, int]] = {}
    findings: list[Finding] = []
    for part in PARTS if part_of else ():
        chosen = [item for item in slices if part_of.get(item.name) == part]
        labels = Counter(item.label for item in chosen)
        counts[part] = {"patients": len({item.patient for item in chosen}), "slices": len(chosen)}
        counts[part] |= {f"label {label}": count for label, count in sorted(labels.items())}
        findings += check_classes(labels, part, trains=part == "train")
        if part == "train" and not chosen:
            findings.append(error("split", part, "no slice is in the training part", "assign patients to train"))
    return counts, findings
