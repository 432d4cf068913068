"""One subject read whole and once: checked, its tissue told from the background, its intensities measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seewhy.batch import MODALITIES
from seewhy.data.domains.subjects import Subject
from seewhy.data.transforms.normalization import measure
from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.nifti import NiftiFile

__all__ = ["QUANTILES", "Measured", "measure_subject", "tissue"]

QUANTILES = np.linspace(0, 100, 1001)
"""Percentiles of the tissue that are kept per modality, so that any window can be chosen when reading."""
MEASURED_SLICES = 24
"""Slices, evenly spread, from which the background is told."""
FEW_VALUES = 16
"""A modality with fewer different values in the tissue is a segmentation, not an image."""
LEAST_TISSUE = 0.005
"""Share of a volume's voxels; with less tissue it is no scan of a head."""
MOST_TISSUE = 0.9
"""Share of a volume's voxels; with more there is no background, and even a head cut out tightly leaves corners."""
AXIS = 2
"""The axis that is cut into slices, from feet to head."""


@dataclass(frozen=True)
class Measured:
    """What is kept of a subject; axes are slices, rows, columns: the third axis of the files first.

    Attributes:
        volume: [D, M, h, w] intensities as stored in the files, cut to the box around all tissue.
        body: [D, h, w] bool, the tissue.
        mask: [D, h, w] uint8 labels of the annotation, or None.
        quantiles: [M, 1001] float32, percentiles 0 to 100 of each modality's tissue.
        box: first voxel and the one after the last, per axis.
        geometry: of the files.
    """

    volume: NDArray[Any]
    body: NDArray[np.bool_]
    mask: NDArray[np.uint8] | None
    quantiles: NDArray[np.float32]
    box: tuple[tuple[int, int], ...]
    geometry: Geometry


def measure_subject(subject: Subject) -> Measured:
    """Read a subject, refuse what cannot be trained on, and measure it.

    Raises:
        DataError: all that is wrong with its files.
    """
    files = _open(subject)
    volumes = _read_all(subject, files)
    body = tissue(volumes)
    share = float(body.mean())
    if not LEAST_TISSUE <= share <= MOST_TISSUE:
        much = "only " if share < LEAST_TISSUE else ""
        raise DataError(
            f"{subject.files[MODALITIES[0]].parent}: {subject.id}: {much}{share:.2%} of the voxels are tissue; "
            "expected scans of a head on a dark background"
        )
    box = _box(body)
    window = tuple(slice(start, stop) for start, stop in box)
    body = np.ascontiguousarray(body[window])
    # Slices first and modalities next: a stack of adjacent slices is then one run of bytes in the file.
    volume = np.stack([values[window] for values in volumes], axis=1)
    problems = _label_like(subject, volume, body)
    if problems:
        raise DataError(problems)
    quantiles = np.stack([np.percentile(volume[:, number][body], QUANTILES) for number in range(len(MODALITIES))])
    mask = None if subject.segmentation is None else _mask(files["segmentation"])[window]
    geometry = files[MODALITIES[0]].geometry
    return Measured(volume, body, mask, quantiles.astype(np.float32), box, geometry)


def tissue(volumes: list[NDArray[Any]]) -> NDArray[np.bool_]:
    """Where any modality shows tissue: the largest connected part, holes filled slice by slice.

    Args:
        volumes: [D, H, W] per modality.

    Returns:
        [D, H, W] bool.
    """
    above = np.zeros(volumes[0].shape, bool)
    for volume in volumes:
        count = min(len(volume), MEASURED_SLICES)
        places = np.linspace(0, len(volume) - 1, count).round().astype(int)
        found = measure([volume[place][None].astype(np.float32) for place in places])
        above |= volume != found.background if np.isnan(found.threshold) else volume > found.threshold
    if not above.any():
        return above
    window = tuple(slice(start, stop) for start, stop in _box(above))
    inner = above[window]
    parts, count = ndimage.label(inner)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        inner = parts == sizes.argmax()
    body = np.zeros_like(above)
    body[window] = np.stack([ndimage.binary_fill_holes(plane) for plane in inner])
    return body


def _open(subject: Subject) -> dict[str, NiftiFile]:
    """The headers of all files, on one grid."""
    files: dict[str, NiftiFile] = {}
    problems: list[str] = []
    wanted = {**subject.files, **({"segmentation": subject.segmentation} if subject.segmentation else {})}
    for name, path in wanted.items():
        try:
            files[name] = NiftiFile(path)
        except DataError as error:
            problems += error.problems
            continue
        channel = subject.channel.get(name)
        if channel is None and files[name].channels > 1:
            problems.append(f"{path} has {files[name].channels} channels; expected one volume")
        elif channel is not None and channel >= files[name].channels:
            problems.append(f"{path} has {files[name].channels} channels; dataset.json says {name} is number {channel}")
    first = next(iter(files.values()), None)
    for file in dict.fromkeys(files.values()):
        apart = None if first is None else first.geometry.difference(file.geometry)
        if apart and first is not None:
            problems.append(f"{file.path} does not lie on {first.path.name}: {apart}; resample it first")
    if first is not None and first.geometry.oriented and first.geometry.axis_codes[AXIS] not in "SI":
        codes = "".join(first.geometry.axis_codes)
        problems.append(f"{first.path} is stored as {codes}; expected axial slices along the third axis (… S or I)")
    if problems:
        raise DataError(list(dict.fromkeys(problems)))
    return files


def _read_all(subject: Subject, files: Mapping[str, NiftiFile]) -> list[NDArray[Any]]:
    """Values [D, H, W] of all modalities, in their order.

    Raises:
        DataError: every file that is damaged, and what is wrong with the values of the others.
    """
    volumes: dict[str, NDArray[Any]] = {}
    problems: list[str] = []
    for name in MODALITIES:
        try:
            volumes[name] = _read(files[name], subject.channel[name])
        except DataError as error:
            problems += error.problems
    problems = [*dict.fromkeys(problems), *_value_problems(subject, volumes)]
    if problems:
        raise DataError(problems)
    return list(volumes.values())


def _read(file: NiftiFile, channel: int | None) -> NDArray[Any]:
    """Values [D, H, W] as stored: whole numbers of 16 bits at most stay so, all others become float32."""
    values = np.moveaxis(file.read(channel=channel), AXIS, 0)
    small = values.dtype.kind in "iu" and np.can_cast(values.dtype, np.int16)
    return values.astype(np.int16 if small else np.float32)


def _mask(file: NiftiFile) -> NDArray[np.uint8]:
    labels = np.moveaxis(file.read(), AXIS, 0)
    if labels.min() < 0 or labels.max() > 255 or np.any(labels % 1):
        raise DataError(f"{file.path} holds values from {labels.min():g} to {labels.max():g}; expected labels 0 to 255")
    return labels.astype(np.uint8)


def _value_problems(subject: Subject, volumes: Mapping[str, NDArray[Any]]) -> list[str]:
    """Voxels that are no numbers, and volumes of one value."""
    problems = []
    for name, values in volumes.items():
        bad = 0 if values.dtype.kind in "iu" else int(values.size - np.isfinite(values).sum())
        if bad:
            problems.append(f"{subject.files[name]} ({name}) holds {bad} voxels that are NaN or infinite; repair it")
        elif values.min() == values.max():
            problems.append(f"{subject.files[name]} ({name}) holds the value {values.flat[0]:g} everywhere")
    return problems


def _label_like(subject: Subject, volume: NDArray[Any], body: NDArray[np.bool_]) -> list[str]:
    """Modalities that are segmentations by their values."""
    problems = []
    for number, name in enumerate(MODALITIES):
        values = np.unique(volume[:, number][body])
        if len(values) < FEW_VALUES:
            shown = ", ".join(f"{value:g}" for value in values[:5])
            problems.append(
                f"{subject.files[name]} ({name}) holds only {len(values)} different values ({shown} …); "
                "expected an image, this looks like a segmentation"
            )
    return problems


def _box(body: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """First voxel and the one after the last, per axis, of all that is True."""
    ends = []
    for axis in range(body.ndim):
        found = np.flatnonzero(body.any(axis=tuple(other for other in range(body.ndim) if other != axis)))
        ends.append((int(found[0]), int(found[-1]) + 1))
    return tuple(ends)
