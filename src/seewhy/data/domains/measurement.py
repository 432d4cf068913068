"""Measure one subject: read and check its files, segment the tissue, and compute intensity quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.data.domains.subjects import Subject
from seewhy.errors import DataError
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.geometry import Geometry
from seewhy.io.scans.scan import Scan, open_scan
from seewhy_run.arrays.body import find_box, segment_tissue

__all__ = ["QUANTILES", "MeasuredSubject", "measure_subject", "segment_tissue"]

QUANTILES = np.linspace(0, 100, 1001)
"""Percentiles of the tissue stored per modality, so that the window can be chosen when reading."""
FEW_VALUES = 16
"""A modality with fewer distinct values in the tissue is a segmentation, not an image."""
LEAST_TISSUE = 0.005
"""Smallest share of tissue in the scan of a head."""
MOST_TISSUE = 0.9
"""Largest share of tissue: even a tightly cropped head leaves background in the corners."""
AXIS = 2
"""Axis along which volumes are cut into slices, from feet to head."""


@dataclass(frozen=True)
class MeasuredSubject:
    """A measured subject; axes are slices, rows, columns: the third axis of the files first.

    Attributes:
        volume: [D, M, h, w] intensities as stored in the files, cropped to the box around the tissue.
        body: [D, h, w] bool, the tissue.
        mask: [D, h, w] uint8 labels of the annotation, or None.
        quantiles: [M, 1001] float32, percentiles 0 to 100 of each modality's tissue.
        box: first voxel and the one after the last, per axis.
        geometry: geometry of the files.
    """

    volume: NDArray[Any]
    body: NDArray[np.bool_]
    mask: NDArray[np.uint8] | None
    quantiles: NDArray[np.float32]
    box: tuple[tuple[int, int], ...]
    geometry: Geometry


def measure_subject(subject: Subject) -> MeasuredSubject:
    """Read, check and measure a subject.

    Raises:
        DataError: all problems of its files.
    """
    files = _open_files(subject)
    volumes = _read_modalities(subject, files)
    body = segment_tissue(volumes)
    share = float(body.mean())
    if not LEAST_TISSUE <= share <= MOST_TISSUE:
        only = "only " if share < LEAST_TISSUE else ""
        raise DataError(
            f"{subject.files[MODALITIES[0]].parent}: {subject.id}: {only}{share:.2%} of the voxels are tissue; "
            "expected scans of a head on a dark background"
        )
    box = find_box(body)
    window = tuple(slice(start, stop) for start, stop in box)
    body = np.ascontiguousarray(body[window])
    # Slices first, then modalities: a stack of adjacent slices is one run of bytes in the file.
    volume = np.stack([values[window] for values in volumes], axis=1)
    problems = _check_label_like(subject, volume, body)
    if problems:
        raise DataError(problems)
    quantiles = np.stack([np.percentile(volume[:, number][body], QUANTILES) for number in range(len(MODALITIES))])
    mask = None if subject.segmentation is None else _read_mask(files["segmentation"])[window]
    geometry = files[MODALITIES[0]].geometry
    return MeasuredSubject(volume, body, mask, quantiles.astype(np.float32), box, geometry)


def _open_files(subject: Subject) -> dict[str, Scan]:
    """Open all files and check that they have the same grid."""
    files: dict[str, Scan] = {}
    problems: list[str] = []
    wanted = {**subject.files, **({"segmentation": subject.segmentation} if subject.segmentation else {})}
    for name, path in wanted.items():
        try:
            files[name] = open_scan(path)
        except DataError as error:
            problems += error.problems
            continue
        channel = subject.channel.get(name)
        if channel is None and files[name].channels > 1:
            problems.append(f"{path} has {files[name].channels} channels; expected one volume")
        elif channel is not None and channel >= files[name].channels:
            problems.append(
                f"{path} has {files[name].channels} channels, but {name} is channel {channel} in dataset.json"
            )
    first = next(iter(files.values()), None)
    for file in dict.fromkeys(files.values()):
        difference = None if first is None else first.geometry.difference(file.geometry)
        if difference and first is not None:
            problems.append(f"{file.path} has another grid than {first.path.name}: {difference}; resample it first")
    if first is not None and first.geometry.oriented and first.geometry.axis_codes[AXIS] not in "SI":
        codes = "".join(first.geometry.axis_codes)
        problems.append(f"{first.path} is stored as {codes}; expected axial slices along the third axis (… S or I)")
    if problems:
        raise DataError(list(dict.fromkeys(problems)))
    return files


def _read_modalities(subject: Subject, files: Mapping[str, Scan]) -> list[NDArray[Any]]:
    """Read the values [D, H, W] of all modalities, in their order.

    Raises:
        DataError: all damaged files, and all problems of the values of the others.
    """
    volumes: dict[str, NDArray[Any]] = {}
    problems: list[str] = []
    for name in MODALITIES:
        try:
            volumes[name] = _read_values(files[name], subject.channel[name])
        except DataError as error:
            problems += error.problems
    problems = [*dict.fromkeys(problems), *_check_values(subject, volumes)]
    if problems:
        raise DataError(problems)
    return list(volumes.values())


def _read_values(file: Scan, channel: int | None) -> NDArray[Any]:
    """Read values [D, H, W]: whole numbers of up to 16 bits stay int16, all others become float32."""
    values = np.moveaxis(file.read(channel=channel), AXIS, 0)
    small = values.dtype.kind in "iu" and np.can_cast(values.dtype, np.int16)
    return values.astype(np.int16 if small else np.float32)


def _read_mask(file: Scan) -> NDArray[np.uint8]:
    labels = np.moveaxis(read_whole_labels(file.read(), file.path), AXIS, 0)
    if labels.min() < 0 or labels.max() > 255:
        raise DataError(
            f"{file.path} contains values from {labels.min():g} to {labels.max():g}; expected labels 0 to 255"
        )
    return labels.astype(np.uint8)


def _check_values(subject: Subject, volumes: Mapping[str, NDArray[Any]]) -> list[str]:
    """Report NaN, infinite values and constant volumes."""
    problems = []
    for name, values in volumes.items():
        bad = 0 if values.dtype.kind in "iu" else int(values.size - np.isfinite(values).sum())
        if bad:
            problems.append(f"{subject.files[name]} ({name}) contains {bad} voxels that are NaN or infinite; repair it")
        elif values.min() == values.max():
            problems.append(f"{subject.files[name]} ({name}) is {values.flat[0]:g} everywhere; expected an image")
    return problems


def _check_label_like(subject: Subject, volume: NDArray[Any], body: NDArray[np.bool_]) -> list[str]:
    """Report modalities that look like segmentations."""
    problems = []
    for number, name in enumerate(MODALITIES):
        values = np.unique(volume[:, number][body])
        if len(values) < FEW_VALUES:
            shown = ", ".join(f"{value:g}" for value in values[:5])
            problems.append(
                f"{subject.files[name]} ({name}) contains only {len(values)} distinct values ({shown} …); "
                "expected an image, this looks like a segmentation"
            )
    return problems
