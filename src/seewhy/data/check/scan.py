"""Scan one slice file and its mask, and keep the statistics that comparisons need."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.check.report import Finding, error, warning
from seewhy.data.slices.cutting import LabelRule
from seewhy.data.slices.files import Naming
from seewhy.errors import DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.npy import read_npy
from seewhy.io.slices import find_plane_shape

__all__ = ["ScannedSlice", "scan_slice"]

SLIVER = 0.01
"""Largest share of lesion pixels in a slice labelled 0 that may be intended: papers label such slices negative."""


@dataclass(frozen=True)
class ScannedSlice:
    """Statistics of a slice, without its pixels.

    Attributes:
        name: file name.
        patient: patient in the file name.
        slice: slice number in the file name, or None.
        label: label in the file name.
        shape: (rows, columns); None if the file cannot be used.
        digest: hash of shape, type and values; None for constant slices, which are not duplicates.
        area: pixels of the mask above 0; None without a readable mask.
        highest: largest value of the mask, or None.
    """

    name: str
    patient: str
    slice: int | None
    label: int
    shape: tuple[int, int] | None
    digest: bytes | None
    area: int | None
    highest: int | None


def scan_slice(
    path: Path, mask: Path | None, naming: Naming, rule: LabelRule | None, *, modalities: int = 1
) -> tuple[ScannedSlice | None, list[Finding]]:
    """Read a slice and its mask.

    Args:
        path: the slice.
        mask: its mask, or None.
        naming: pattern of file names.
        rule: rule from lesion area to label, if the data set states one.
        modalities: that every slice holds.

    Returns:
        Statistics (None if the name cannot be parsed), and the problems.
    """
    match = re.fullmatch(naming.pattern, path.name)
    if match is None:
        return None, [_report_bad_name(path, naming)]
    parts = match.groupdict()
    image, shape, findings = _read_image(path, modalities)
    label = int(parts["label"])
    area = highest = None
    if mask is not None:
        values, problems = _read_mask(mask, shape)
        findings += problems
        if values is not None:
            area, highest = int((values > 0).sum()), int(values.max())
            findings += _compare_label(path, label, values, area, rule)
    scanned = ScannedSlice(
        name=path.name,
        patient=parts["patient"],
        slice=None if parts.get("slice") is None else int(parts["slice"]),
        label=label,
        shape=shape,
        digest=_hash_values(image),
        area=area,
        highest=highest,
    )
    return scanned, findings


def _report_bad_name(path: Path, naming: Naming) -> Finding:
    last = path.stem.rsplit("_", 1)[-1]
    if last.isdigit():
        what = "the name does not match the pattern"
    else:
        what = f"the label {last!r} after the last _ is not an integer"
    return error("name", path.name, what, f"rename it like {naming.example}")


def _read_image(path: Path, modalities: int) -> tuple[NDArray[Any] | None, tuple[int, int] | None, list[Finding]]:
    try:
        image = read_npy(path)
    except DataError as problem:
        return None, None, [_report_unreadable(path.name, problem)]
    shape = find_plane_shape(image.shape, modalities=modalities)
    if shape is None:
        remedy = "store one slice per file: rows x columns, with 1 or 3 channels at most"
        return None, None, [error("shape", path.name, f"shape {image.shape} is not that of a slice", remedy)]
    findings = []
    bad = int(image.size - np.isfinite(image).sum())
    if bad:
        remedy = "write the slice again with finite values"
        findings.append(error("not-finite", path.name, f"{bad} of {image.size} values are NaN or infinite", remedy))
    elif image.min() == image.max():
        message = f"every pixel has the value {image.flat[0]:g}"
        findings.append(
            warning("constant", path.name, message, "leave empty slices out; a model learns nothing from them")
        )
    return image, shape, findings


def _read_mask(path: Path, shape: tuple[int, int] | None) -> tuple[NDArray[Any] | None, list[Finding]]:
    """Read a mask that can be compared, or report its problems."""
    name = f"maskSlice/{path.name}"
    try:
        mask = read_npy(path)
    except DataError as problem:
        return None, [_report_unreadable(name, problem)]
    mask_shape = find_plane_shape(mask.shape)
    if mask_shape is None or (shape is not None and mask_shape != shape):
        message = f"shape {mask.shape}, expected " + (f"that of its slice, {shape}" if shape else "that of a slice")
        return None, [error("mask-shape", name, message, "cut mask and slice from the same grid")]
    remedy = "store class indices (0 background) as uint8"
    try:
        mask = read_whole_labels(mask, "the mask")
    except DataError as problem:
        return None, [error("mask-values", name, problem.problems[0], remedy)]
    if mask.min() < 0:
        return None, [error("mask-values", name, f"contains the value {mask.min():g}, below 0", remedy)]
    return mask, []


def _report_unreadable(name: str, problem: DataError) -> Finding:
    text = problem.problems[0]
    if "pickle" in text:
        return error(
            "pickled", name, "a pickle, which can run arbitrary code when it is read", "save a plain array of numbers"
        )
    if "0 bytes" in text:
        return error("unreadable", name, "empty file", "write it again or delete it")
    return error("unreadable", name, text, "write it again or delete it")


def _compare_label(path: Path, label: int, mask: NDArray[Any], area: int, rule: LabelRule | None) -> list[Finding]:
    """Compare a label with the mask."""
    remedy = "correct the label in the file name, or the mask"
    if rule is not None:
        expected = rule.label(area, mask.size)
        if (label > 0) == (expected > 0):
            return []
        message = (
            f"label {label}, but {area} annotated pixels give {expected} by the rule {rule.name!r} of dataset.json"
        )
        return [error("label-mask", path.name, message, remedy)]
    if label > 0 and not (mask == label).any() and not (area > 0 and mask.max() > max(label, 1)):
        return [error("label-mask", path.name, f"label {label}, but no mask pixel is of class {label}", remedy)]
    if label == 0 and area > SLIVER * mask.size:
        return [error("label-mask", path.name, f"label 0, but the mask shows {area} annotated pixels", remedy)]
    if label == 0 and area > 0:
        message = f"label 0, but the mask shows {area} annotated pixels"
        return [warning("label-mask", path.name, message, "state the label rule in dataset.json if this is intended")]
    return []


def _hash_values(image: NDArray[Any] | None) -> bytes | None:
    if image is None or image.min() == image.max():
        return None
    content = hashlib.blake2b(f"{image.shape}{image.dtype.str}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(image).tobytes())
    return content.digest()
