"""The check of one data set, from folder to report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from seewhy.data.check.comparison import (
    class_findings,
    duplicate_findings,
    mask_findings,
    part_findings,
    partition,
    patient_findings,
    size_findings,
)
from seewhy.data.check.records import manifest_findings, manifest_patients, read_description
from seewhy.data.check.report import Report, error, warning
from seewhy.data.check.scan import Scanned, scan
from seewhy.data.slices.files import BRATS, LASC, Naming, npy_names
from seewhy.data.slices.label_rule import LabelRule
from seewhy.errors import ConfigError
from seewhy.io.layout import IMAGES, MASKS

__all__ = ["check_dataset"]


def check_dataset(
    root: str | Path,
    *,
    split: str | Path | None = None,
    slice_split: Sequence[int] | None = None,
    naming: Naming | None = None,
    progress: bool = False,
) -> Report:
    """Look over a slice data set: every file is read once, and only numbers are kept.

    Errors: files that cannot be read or are pickled, NaN and infinite values, shapes that are no slice or differ
    within a patient, names without an integer label, labels that disagree with masks, misfit masks, exact
    duplicates across patients or parts of the split, a slice number twice, a manifest that disagrees, patients cut
    by the split, one class only. Warnings: constant slices, missing masks, rare classes, several sizes, few
    patients, sources that are gone.

    Args:
        root: the folder with `imageSlice/` (or that folder).
        split: a split.json to check against the data.
        slice_split: the reference's split by position instead, [v0, v1].
        naming: how files are named; None tells `BRATS_…` names from others, whose patients a manifest may name.
        progress: show a bar on stderr.

    Returns:
        The report; a folder that is missing or empty is an error in it too.

    Raises:
        ConfigError: both `split` and `slice_split` are given.
    """
    if split is not None and slice_split is not None:
        raise ConfigError("give either split or slice_split, not both")
    root = Path(root)
    report = Report(root.parent if root.name == IMAGES else root)
    images = report.root / IMAGES
    images = images if images.is_dir() else report.root
    names = npy_names(images)
    if not names:
        message = f"no .npy slices in {images}" if images.is_dir() else "no such folder"
        report.add([error("missing", root, message, "give the folder that contains imageSlice/")])
        return report
    naming = naming or (BRATS if any(name.startswith("BRATS_") for name in names) else LASC)
    slices = _scan_all(report, images, names, naming, progress=progress)
    part_of, findings = partition(slices, split=split, slice_split=slice_split)
    report.add(findings)
    _compare(report, slices, part_of, names)
    return report


def _scan_all(report: Report, images: Path, names: Sequence[str], naming: Naming, *, progress: bool) -> list[Scanned]:
    """Read every file once."""
    description, findings = read_description(report.root / "dataset.json")
    report.add(findings)
    automatic = description.get("automatic_masks") or []
    if automatic:
        message = f"the masks of {len(automatic)} patient(s) were made by software, e.g. {automatic[0]}"
        remedy = "say so beside every score, or test on patients whose masks an expert drew"
        report.add([warning("automatic-masks", "dataset.json", message, remedy)])
    rule = LabelRule.from_record(description)
    masks = report.root / MASKS
    with_mask = set(npy_names(masks))
    slices: list[Scanned] = []
    # A name like <name>_<label>.npy leaves open who the patient is; there the manifest decides, as in training.
    patients = manifest_patients(report.root / "manifest.csv") if naming is LASC else {}
    console = Console(stderr=True)
    for name in track(
        names, description=f"checking {report.root.name}", console=console, transient=True, disable=not progress
    ):
        item, findings = scan(images / name, masks / name if name in with_mask else None, naming, rule)
        report.add(findings)
        if item is not None:
            slices.append(replace(item, patient=patients.get(name, item.patient)))
    missing = [item.name for item in slices if item.name not in with_mask]
    report.add(mask_findings(slices, missing, sorted(with_mask - set(names)), masks.is_dir()))
    strange = sorted(path.name for path in images.iterdir() if path.name[0] != "." and path.suffix != ".npy")
    if images.name == IMAGES and strange:
        message = f"{len(strange)} file(s) are no .npy, e.g. {strange[0]}"
        report.add([warning("name", images.name, message, "they are not read; move them elsewhere")])
    return slices


def _compare(report: Report, slices: list[Scanned], part_of: dict[str, str], names: Sequence[str]) -> None:
    """All that needs more than one file."""
    labels = Counter(item.label for item in slices)
    report.add(manifest_findings(report.root / "manifest.csv", {item.name: item for item in slices}, set(names)))
    report.add(duplicate_findings(slices, part_of))
    report.add(size_findings(slices))
    report.add(patient_findings(slices))
    report.add(class_findings(labels, "all slices", trains=True))
    parts, findings = part_findings(slices, part_of)
    report.add(findings)
    report.counts = {
        "files": len(names),
        "patients": len({item.patient for item in slices}),
        "labels": {str(label): count for label, count in sorted(labels.items())},
        "masks": sum(item.area is not None for item in slices),
    }
    if parts:
        report.counts["parts"] = parts
