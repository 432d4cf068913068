"""Slices of a patient who is in no data set: cut from a volume as the data set was, or given as prepared slices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seewhy.data.case_files import CaseFiles
from seewhy.data.slices.cutting import cut_slices
from seewhy.data.slices.files import Naming, SliceRecord, read_slice_info
from seewhy.errors import ConfigError, DataError
from seewhy.io.npy import read_npy, write_npy
from seewhy.io.scans.scan import is_scan, open_scan
from seewhy.io.slices import find_plane_shape, natural_key

__all__ = ["list_new_slices"]

CUT = ("window", "dtype", "every", "tissue_only")
"""Keys of `dataset.json` that tell how the volumes of a data set were cut."""


def list_new_slices(case: CaseFiles, scratch: Path, *, naming: Naming, root: Path) -> list[SliceRecord]:
    """List the slices of a patient in order.

    Args:
        case: one scan, one `.npy` of all slices [S, rows, columns], or one `.npy` for each slice.
        scratch: folder for slices that are cut here.
        naming: names from which the numbers of slices are read; other names are slices 0, 1, 2 … as given.
        root: the training's data set, whose `dataset.json` tells how volumes are cut.

    Raises:
        ConfigError: a scan, but the data set does not tell how to cut it.
        DataError: files that cannot be read, or a scan with several channels.
    """
    files = case.files["image"]
    if not files:
        raise DataError(f"case {case.id} has no image")
    if len(files) == 1 and is_scan(files[0]):
        return _cut_scan(case.id, files[0], scratch, root)
    if len(files) == 1 and find_plane_shape(shape := read_npy(files[0], mmap=True).shape) is None:
        if len(shape) != 3:
            raise DataError(f"{files[0]} has shape {shape}; expected slices [S, rows, columns]")
        stack = read_npy(files[0])
        files = tuple(write_npy(scratch / f"{case.id}_{number}.npy", plane) for number, plane in enumerate(stack))
        return [SliceRecord(path, None, case.id, number, 0) for number, path in enumerate(files)]
    return _list_files(case.id, files, naming)


def _list_files(patient: str, files: Sequence[Path], naming: Naming) -> list[SliceRecord]:
    """Slices in the order of their numbers, or as given if their names have none."""
    matches = [re.fullmatch(naming.pattern, path.name) for path in files]
    numbers = [match.groupdict().get("slice") if match else None for match in matches]
    if not all(number is not None for number in numbers):
        return [SliceRecord(path, None, patient, number, 0) for number, path in enumerate(files)]
    records = [
        SliceRecord(path, None, patient, int(number or 0), 0) for path, number in zip(files, numbers, strict=True)
    ]
    return sorted(records, key=lambda record: (record.slice, natural_key(record.path.name)))


def _cut_scan(patient: str, path: Path, scratch: Path, root: Path) -> list[SliceRecord]:
    """Cut a scan along its third axis, as `seewhy prepare` has cut the scans of the data set."""
    try:
        info = read_slice_info(root)
    except DataError as error:
        raise ConfigError(
            f"{path} cannot be cut into slices as the training's scans were: {error}; set data.root, or give slices"
        ) from error
    missing = [key for key in CUT if key not in info]
    if missing:
        raise ConfigError(
            f"{root}/dataset.json does not tell how scans are cut ({', '.join(missing)} is missing), since `seewhy "
            "prepare` did not make it; give slices like those in imageSlice/ instead of a scan"
        )
    scan = open_scan(path)
    if scan.channels > 1:
        raise DataError(f"{path} has {scan.channels} channels; give a volume of the trained modality")
    volume = scan.read()
    if not np.isfinite(volume).all():
        raise DataError(f"{path} contains NaN or infinite voxels; repair it")
    planes = {number: volume[:, :, number] for number in range(volume.shape[2])}
    row, column, between = scan.geometry.spacing
    return [
        SliceRecord(
            write_npy(scratch / f"{patient}_{number}.npy", image), None, patient, number, 0, str(path),
            (row, column, between),
        )
        for number, image in cut_slices(planes, **{key: info[key] for key in CUT}).items()
    ]  # fmt: skip
