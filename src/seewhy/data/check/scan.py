"""One slice file and its mask, read once and reduced to what comparisons need."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.check.report import Finding, error, warning
from seewhy.data.slices.files import Naming
from seewhy.data.slices.label_rule import LabelRule
from seewhy.errors import DataError
from seewhy.io.npy import read_npy

__all__ = ["Scanned", "plane_shape", "scan"]

SLIVER = 0.01
"""Share of a slice below which lesion in a slice labelled 0 may be meant: papers call such slices negative."""


@dataclass(frozen=True)
class Scanned:
    """What is kept of a slice: a few numbers, never its pixels.

    Attributes:
        name: of the file.
        patient: from the name.
        slice: from the name, or None.
        label: from the name.
        shape: (rows, columns), or None where the file could not be used.
        digest: hash of shape, type and values; None for a constant slice, which equals others by nature.
        area: pixels of the mask above 0, or None without a readable mask.
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


def scan(path: Path, mask: Path | None, naming: Naming, rule: LabelRule | None) -> tuple[Scanned | None, list[Finding]]:
    """Read a slice and its mask.

    Args:
        path: the slice.
        mask: its mask, or None.
        naming: how files are named.
        rule: from lesion area to label where the data set states it.

    Returns:
        What is kept (None where not even the name is of use), and the problems.
    """
    match = re.fullmatch(naming.pattern, path.name)
    if match is None:
        return None, [_bad_name(path, naming)]
    parts = match.groupdict()
    image, shape, findings = _image(path)
    label = int(parts["label"])
    area = highest = None
    if mask is not None:
        values, problems = _mask(mask, shape)
        findings += problems
        if values is not None:
            area, highest = int((values > 0).sum()), int(values.max())
            findings += _disagreement(path, label, values, area, rule)
    scanned = Scanned(
        name=path.name,
        patient=parts["patient"],
        slice=None if parts.get("slice") is None else int(parts["slice"]),
        label=label,
        shape=shape,
        digest=_digest(image),
        area=area,
        highest=highest,
    )
    return scanned, findings


def plane_shape(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(rows, columns) of an array that is one slice, or None: H x W, H x W x 1 or 3, 1 or 3 x H x W."""
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3 and shape[2] in (1, 3):
        return shape[0], shape[1]
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape[1], shape[2]
    return None


def _bad_name(path: Path, naming: Naming) -> Finding:
    last = path.stem.rsplit("_", 1)[-1]
    what = f"the label {last!r} after the last _ is no integer" if not last.isdigit() else "the name has another form"
    return error("name", path.name, what, f"rename it like {naming.example}")


def _image(path: Path) -> tuple[NDArray[Any] | None, tuple[int, int] | None, list[Finding]]:
    try:
        image = read_npy(path)
    except DataError as problem:
        return None, None, [_unreadable(path.name, problem)]
    shape = plane_shape(image.shape)
    if shape is None:
        remedy = "store one slice per file: rows x columns, with 1 or 3 channels at most"
        return None, None, [error("shape", path.name, f"shape {image.shape} is no slice", remedy)]
    findings = []
    bad = int(image.size - np.isfinite(image).sum())
    if bad:
        remedy = "write the slice again with finite values"
        findings.append(error("not-finite", path.name, f"{bad} of {image.size} values are NaN or infinite", remedy))
    elif image.min() == image.max():
        message = f"every pixel has the value {image.flat[0]:g}"
        findings.append(warning("constant", path.name, message, "leave empty slices out; they teach nothing"))
    return image, shape, findings


def _mask(path: Path, shape: tuple[int, int] | None) -> tuple[NDArray[Any] | None, list[Finding]]:
    """A mask that can be compared, or what is wrong with it."""
    name = f"maskSlice/{path.name}"
    try:
        mask = read_npy(path)
    except DataError as problem:
        return None, [_unreadable(name, problem)]
    found = plane_shape(mask.shape)
    if found is None or (shape is not None and found != shape):
        message = f"shape {mask.shape}; its slice is {shape}" if shape else f"shape {mask.shape} is no slice"
        return None, [error("mask-shape", name, message, "cut mask and slice from the same grid")]
    if mask.dtype.kind == "f" and (not np.isfinite(mask).all() or (mask != np.rint(mask)).any()):
        remedy = "store class indices (0 background) as uint8"
        return None, [error("mask-values", name, "values that are no whole numbers", remedy)]
    if mask.min() < 0:
        remedy = "store class indices (0 background) as uint8"
        return None, [error("mask-values", name, f"the value {mask.min():g} below 0", remedy)]
    return mask, []


def _unreadable(name: str, problem: DataError) -> Finding:
    text = problem.problems[0]
    if "pickle" in text:
        return error("pickled", name, "a pickle, which can run any code when read", "save a plain array of numbers")
    if "0 bytes" in text:
        return error("unreadable", name, "empty file", "write it again or delete it")
    return error("unreadable", name, text, "write it again or delete it")


def _disagreement(path: Path, label: int, mask: NDArray[Any], area: int, rule: LabelRule | None) -> list[Finding]:
    """Compare a label with what the mask shows."""
    remedy = "correct the label in the file name, or the mask"
    if rule is not None:
        expected = rule.label(area, mask.size)
        if (label > 0) == (expected > 0):
            return []
        message = f"label {label}, but {area} lesion pixels give {expected} by the rule {rule.name!r} of dataset.json"
        return [error("label-mask", path.name, message, remedy)]
    if label > 0 and not (mask == label).any() and not (area > 0 and mask.max() > max(label, 1)):
        return [error("label-mask", path.name, f"label {label}, but no mask pixel is of class {label}", remedy)]
    if label == 0 and area > SLIVER * mask.size:
        return [error("label-mask", path.name, f"label 0, but the mask shows {area} lesion pixels", remedy)]
    if label == 0 and area > 0:
        message = f"label 0, but the mask shows {area} lesion pixels"
        return [warning("label-mask", path.name, message, "state the label rule in dataset.json if it is meant")]
    return []


def _digest(image: NDArray[Any] | None) -> bytes | None:
    if image is None or image.min() == image.max():
        return None
    content = hashlib.blake2b(f"{image.shape}{image.dtype.str}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(image).tobytes())
    return content.digest()
