"""Read a volume as a stack of slices of one size, normalised as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.intensity import background_of, finite, normalize_intensity
from seewhy_run.arrays.resizing import fit_sides, margins, resize
from seewhy_run.arrays.statistics import evenly_spaced, measure
from seewhy_run.errors import RunError
from seewhy_run.files import open_scan, read_npy
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State

__all__ = ["AXES", "ReadStack"]

AXES = {"sagittal": "RL", "coronal": "AP", "axial": "SI"}
"""Names of slice directions, and the directions in which the axis across the slices can point."""
NORMALIZATIONS = ("zscore", "robust", "none")


@dataclass(frozen=True, kw_only=True)
class ReadStack:
    """Makes `image` [1, 1, D, H, W] of a NIfTI or NPY volume.

    Attributes:
        axis: across the slices: 0, 1 or 2 as stored, or `sagittal`, `coronal`, `axial` by the file's header.
        slices: the first and the one after the last; None keeps all.
        depth: number of slices to resize to; None keeps theirs.
        size: see `fit_sides`.
        pad: pixels added around every slice.
        normalize: `zscore` over all voxels, `robust` over the body, or `none`.
        codes: directions of the axes of the training volumes, where all had the same; others are refused.
    """

    axis: int | str
    slices: tuple[int, int] | None
    depth: int | None
    size: int | tuple[int, int] | None
    pad: int
    normalize: str
    codes: str | None = None

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        if self.normalize not in NORMALIZATIONS or (self.axis not in (0, 1, 2) and self.axis not in AXES):
            raise RunError(f"read_stack: normalize={self.normalize!r} or axis={self.axis!r} is unknown")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Read the volume of a case."""
        path = next((path for path in state.files.values() if path is not None), None)
        if path is None:
            raise RunError(f"case {state.id} has no file")
        array, codes = self._read(path)
        if self.codes is not None and codes is not None and codes != self.codes:
            raise RunError(
                f"{path} is stored as {codes}, the training volumes as {self.codes}; turn it first, e.g. with "
                "as_closest_canonical of nibabel"
            )
        axis = self.axis if isinstance(self.axis, int) else self._find_axis(path, codes)
        values = finite(array.astype(np.float32), str(path))
        state.values["image"] = self._cut(*self._normalize(values, axis), axis, path)[None, None]

    def _read(self, path: Path) -> tuple[NDArray[np.generic], str | None]:
        """Values [X, Y, Z] as stored, and the directions of the axes where known."""
        scan = None if path.name.lower().endswith(".npy") else open_scan(path)
        array, codes = (read_npy(path), None) if scan is None else (scan.values, scan.codes)
        if array.ndim != 3:
            raise RunError(f"{path} has shape {array.shape}; expected three axes, one volume per file")
        return array, codes

    def _find_axis(self, path: Path, codes: str | None) -> int:
        if codes is None:
            raise RunError(f"{path} does not store its orientation, so its {self.axis} axis is unknown")
        return next(axis for axis, code in enumerate(codes) if code in AXES[str(self.axis)])

    def _normalize(self, values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.float32], float]:
        """Return normalised values, and the value outside."""
        if self.normalize == "none":
            return values, 0.0
        if self.normalize == "zscore":
            mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
            return (values - np.float32(mean)) / np.float32(std if std > 1e-12 else 1), 0.0
        planes = np.moveaxis(values, axis, 0)
        statistics = measure([planes[place][None] for place in evenly_spaced(len(planes))])
        outside = background_of(statistics, 1, "robust").item()
        return normalize_intensity(values, statistics, "robust"), outside

    def _cut(self, values: NDArray[np.float32], outside: float, axis: int, path: Path) -> NDArray[np.float32]:
        """[D, H, W]: slice axis first, cropped, resized and padded."""
        planes = np.transpose(values, (axis, *(other for other in range(3) if other != axis)))
        depth, rows, columns = planes.shape
        start, stop = self.slices or (0, depth)
        if not 0 <= start < stop <= depth:
            raise RunError(f"{path} has {depth} slices along axis {axis}; the network needs {start} to {stop - 1}")
        size, sides = fit_sides(rows, columns, self.size)
        resized = resize(planes[start:stop], (self.depth or stop - start, *size))
        pad = [margins(side, length, self.pad) for side, length in zip(sides, size, strict=True)]
        return np.pad(resized, ((0, 0), *pad), constant_values=outside)
