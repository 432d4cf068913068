"""Source cases: the files of one patient, and the slices read from them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.geometry import Display, Geometry, display_of_plane
from seewhy.io.names import safe_name

__all__ = ["SlicePlane", "SourceCase", "cut_planes", "find_clashes", "list_files_below", "make_safe_id"]


@dataclass(frozen=True)
class SlicePlane:
    """One slice of a patient, as stored in its source.

    Attributes:
        index: position along the cut axis, counted from 0.
        image: [rows, columns] intensities, or [modalities, rows, columns] of several modalities.
        mask: [rows, columns] bool, the region that counts as lesion.
        source: the file that contains the slice.
        spacing: millimetres between rows, columns and slices; NaN if unknown.
        display: how to turn its picture upright; None if unknown.
        codes: directions of the volume's axes, e.g. `LPS`; None if unknown.
    """

    index: int
    image: NDArray[Any]
    mask: NDArray[np.bool_]
    source: Path
    spacing: tuple[float, float, float]
    display: Display | None = None
    codes: str | None = None


@dataclass(frozen=True)
class SourceCase:
    """A patient that can be read.

    Attributes:
        patient: the id used in file names.
        files: all files that are read for the patient.
        load: reads and checks the files; returns slices in order, or raises `DataError` with all problems.
        automatic_mask: whether software, not an expert, made the mask.
    """

    patient: str
    files: tuple[Path, ...]
    load: Callable[[], Sequence[SlicePlane]]
    automatic_mask: bool = False

    def fingerprint(self) -> list[list[Any]]:
        """Return name, size in bytes and modification time in nanoseconds of each file."""
        stats = [(path.name, path.stat()) for path in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def make_safe_id(name: str) -> str:
    """Make a patient id that is safe in file names and contains no `_`, which separates the fields of a file name.

    A reader that takes the second field of `BRATS_<id>_<slice>_<label>.npy` can then distinguish all patients. The
    original name stays in the manifest.

    Example:
        >>> from seewhy.data.prepare.source_case import make_safe_id
        >>> make_safe_id("Brats18_2013_21_1")
        'Brats18-2013-21-1'
    """
    return safe_name(re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")).replace("_", "-")


def find_clashes(names: Iterable[tuple[str, Path]]) -> list[str]:
    """Report patients that would get the same id.

    Args:
        names: pairs (patient id, its path).
    """
    seen: dict[str, Path] = {}
    problems = []
    for patient, path in names:
        folded = patient.casefold()  # two names that differ in case are one file on macOS and Windows
        if folded in seen:
            problems.append(f"{seen[folded]} and {path} give the same patient id {patient!r}; rename one of them")
        seen.setdefault(folded, path)
    return problems


def list_files_below(source: Path) -> Iterator[Path]:
    """Yield every file below a folder in the order of names; follows links, but enters each folder once."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def cut_planes(
    volumes: Sequence[NDArray[Any]], region: NDArray[np.bool_], *, geometry: Geometry, source: Path
) -> list[SlicePlane]:
    """Cut volumes of one grid along their third axis; rows and columns are their first two axes in stored order."""
    stack = volumes[0] if len(volumes) == 1 else np.stack([volume.astype(np.float32) for volume in volumes])
    display = display_of_plane(geometry) if geometry.oriented else None
    codes = "".join(geometry.axis_codes) if geometry.oriented else None
    return [
        SlicePlane(index, stack[..., index], region[:, :, index], source, geometry.spacing, display, codes)
        for index in range(region.shape[2])
    ]
