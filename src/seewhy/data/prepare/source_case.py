"""One patient of a source: what to read, and what was read."""

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

__all__ = ["SlicePlane", "SourceCase", "clashes", "files_below", "planes_of", "safe_id"]


@dataclass(frozen=True)
class SlicePlane:
    """One slice of a patient, as stored in its source.

    Attributes:
        index: position along the cut axis, counted from 0.
        image: [rows, columns] intensities.
        mask: [rows, columns] bool, the region that counts as lesion.
        source: the file the slice is of.
        spacing: millimetres between rows, columns and slices; NaN where the source does not say.
        display: how its picture is turned upright; None where the source does not say.
    """

    index: int
    image: NDArray[Any]
    mask: NDArray[np.bool_]
    source: Path
    spacing: tuple[float, float, float]
    display: Display | None = None


@dataclass(frozen=True)
class SourceCase:
    """A patient that can be read.

    Attributes:
        patient: the id that goes into file names.
        files: everything that is read for it.
        load: reads and checks; gives slices in order, or raises `DataError` with all problems of the case.
        automatic_mask: whether software, not an expert, made the mask.
    """

    patient: str
    files: tuple[Path, ...]
    load: Callable[[], Sequence[SlicePlane]]
    automatic_mask: bool = False

    def fingerprint(self) -> list[list[Any]]:
        """Name, size in bytes and modification time in nanoseconds of each file."""
        stats = [(path.name, path.stat()) for path in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def safe_id(name: str) -> str:
    """A patient id that is safe in a file name and holds no `_`, which separates the fields of our names.

    `Brats18_2013_21_1` becomes `Brats18-2013-21-1`: so even a reader that takes the second field of
    `BRATS_<id>_<slice>_<label>.npy` tells all patients apart. The source's own name stays in the manifest.
    """
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "unnamed"


def clashes(names: Iterable[tuple[str, Path]]) -> list[str]:
    """Problems of patients that would get the same id.

    Args:
        names: (patient id, where it was found).
    """
    seen: dict[str, Path] = {}
    problems = []
    for patient, path in names:
        folded = patient.casefold()  # two names that differ in case are one file on macOS and Windows
        if folded in seen:
            problems.append(f"{seen[folded]} and {path} give the same patient id {patient!r}; rename one")
        seen.setdefault(folded, path)
    return problems


def files_below(source: Path) -> Iterator[Path]:
    """Every file below a folder in the order of names; linked folders are entered too, each folder once."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def planes_of(volume: NDArray[Any], region: NDArray[np.bool_], *, geometry: Geometry, source: Path) -> list[SlicePlane]:
    """Cut a volume along its third axis; rows and columns are its first two axes in stored order."""
    display = display_of_plane(geometry) if geometry.oriented else None
    return [
        SlicePlane(
            index=index,
            image=volume[:, :, index],
            mask=region[:, :, index],
            source=source,
            spacing=geometry.spacing,
            display=display,
        )
        for index in range(volume.shape[2])
    ]
