"""Cut a volume into a stack of slices of one size, normalised, with the way back to the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.transforms.normalization import IntensityNormalization, finite, measure
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.checks.labels import read_whole_labels
from seewhy.io.checks.read_errors import describe
from seewhy.io.geometry import Geometry
from seewhy.io.npy import npy_shape, read_npy
from seewhy.io.placement import Placement
from seewhy.io.scans.scan import SCAN_SUFFIXES, is_scan, open_scan
from seewhy.options import choice_problems
from seewhy_run.arrays.resizing import fit_sides, margins
from seewhy_run.arrays.statistics import evenly_spaced

__all__ = [
    "AXES",
    "NORMALIZATIONS",
    "VOLUME_SUFFIXES",
    "SliceStackReader",
    "VolumeHeader",
    "read_header",
    "read_values",
]

VOLUME_SUFFIXES = (*SCAN_SUFFIXES, ".npy")
AXES = {"sagittal": "RL", "coronal": "AP", "axial": "SI"}
"""Names of slice directions, and the directions in which the axis across the slices can point."""
NORMALIZATIONS = ("zscore", "robust", "none")
MEASURED_SLICES = 24
"""Number of evenly spread slices that `robust` measures."""


@dataclass(frozen=True)
class VolumeHeader:
    """Header of a volume, known without reading its values.

    Attributes:
        path: the file.
        shape: voxels along the three axes, as stored.
        geometry: position of the voxels; None for `.npy`, which does not store it.
    """

    path: Path
    shape: tuple[int, int, int]
    geometry: Geometry | None

    @property
    def codes(self) -> str | None:
        """Directions of the three axes, e.g. `LAS`; None if the file does not store them."""
        known = self.geometry is not None and self.geometry.oriented
        return "".join(self.geometry.axis_codes) if self.geometry is not None and known else None

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres along the three axes; NaN if the file does not store them."""
        return self.geometry.spacing if self.geometry is not None else (float("nan"),) * 3


def read_header(path: str | Path) -> VolumeHeader:
    """Read the header of a volume.

    Raises:
        DataError: the file is missing, damaged, of another format, or does not have three axes.
    """
    path = Path(path)
    if is_scan(path):
        file = open_scan(path)
        shape: tuple[int, ...] = file.shape
        geometry = file.geometry
    elif path.suffix.lower() == ".npy":
        shape, geometry = npy_shape(path), None
    else:
        raise DataError(f"{path} is not a volume{describe(path)}; expected {', '.join(VOLUME_SUFFIXES)}")
    if len(shape) != 3:
        raise DataError(f"{path} has shape {shape}; expected three axes, one volume per file")
    return VolumeHeader(path, (shape[0], shape[1], shape[2]), geometry)


def read_values(path: str | Path) -> NDArray[Any]:
    """Read the values of a volume as stored, [X, Y, Z].

    Raises:
        DataError: the file cannot be read.
    """
    return read_npy(path) if Path(path).suffix.lower() == ".npy" else open_scan(path).read()


@dataclass(frozen=True, kw_only=True)
class SliceStackReader:
    """Cuts a volume into slices, resizes and normalises it.

    Attributes:
        axis: along which it is cut: 0, 1 or 2 as stored, or `sagittal`, `coronal`, `axial` by the file's header.
        slices: the first and the one after the last, numbered as in the scan; None keeps all.
        depth: number of slices to resize to; None keeps theirs.
        size: pixels of a slice's longer side (the shorter follows in proportion and is padded to a square), or
            (rows, columns) to stretch to; None keeps theirs.
        pad: pixels added around every slice.
        normalize: `zscore` (mean 0, deviation 1 over all voxels of the volume), `robust` (median and median absolute
            deviation over the body, see `seewhy.data.transforms.normalization.IntensityNormalization`) or `none`.

    Raises:
        ConfigError: values that do not exist or do not fit; all of them.
    """

    axis: int | str
    slices: tuple[int, int] | None = None
    depth: int | None = None
    size: int | tuple[int, int] | None = None
    pad: int = 0
    normalize: str = "zscore"

    def __post_init__(self) -> None:
        problems = []
        if self.axis not in (0, 1, 2) and self.axis not in AXES:
            problems.append(f"data.axis={self.axis!r} must be 0, 1 or 2, or a name; {nearest(str(self.axis), AXES)}")
        if self.slices is not None and not (len(self.slices) == 2 and 0 <= self.slices[0] < self.slices[1]):
            problems.append(f"data.slices={list(self.slices)} must be the first slice and the one after the last")
        sides = self.size if isinstance(self.size, tuple) else (self.size,) * 2
        if len(sides) != 2 or any(side is not None and side < 1 for side in sides):
            problems.append(f"data.size={self.size} must be one number of pixels, or rows and columns")
        if self.depth is not None and self.depth < 1:
            problems.append(f"data.depth={self.depth} must be 1 or more")
        if self.pad < 0:
            problems.append(f"data.pad={self.pad} must not be negative")
        problems += choice_problems(self.normalize, NORMALIZATIONS, "data.normalize")
        if problems:
            raise ConfigError("; ".join(problems))

    def placement(self, header: VolumeHeader) -> Placement:
        """Placement of this volume's slices on the model's grid.

        Raises:
            DataError: a volume thinner than `slices`, or a named axis if the file does not store its orientation.
        """
        axis = self._find_axis(header)
        whole = Placement(source=str(header.path), shape=header.shape, axis=axis)
        depth, rows, columns = whole.full_grid
        start, stop = self.slices or (0, depth)
        if stop > depth:
            raise DataError(
                f"{header.path} has {depth} slices along axis {axis} (shape {header.shape}); "
                f"data.slices={[start, stop]} needs {stop}"
            )
        size, sides = fit_sides(rows, columns, self.size)
        return Placement(
            source=str(header.path),
            shape=header.shape,
            axis=axis,
            crop=((start, stop), (0, rows), (0, columns)),
            size=(self.depth or stop - start, *size),
            pad=((0, 0), *(margins(side, length, self.pad) for side, length in zip(sides, size, strict=True))),
        )

    def read_grid(self, placement: Placement) -> NDArray[np.float32]:
        """Read, normalise and cut the volume of a placement.

        Returns:
            The model's grid [D, H, W]. What was padded is 0, or the background where it was measured (`robust`).

        Raises:
            DataError: the file cannot be read, or holds no finite value.
        """
        values = finite(read_values(placement.source).astype(np.float32), placement.source)
        values, outside = self._normalize(values, placement.axes[0])
        return np.ascontiguousarray(placement.apply(values, fill=outside), np.float32)

    def read_mask(self, path: str | Path, placement: Placement) -> NDArray[np.uint8]:
        """Read an annotation on the grid of its volume, [D, H, W] in {0, 1}; all values above 0 count.

        Raises:
            DataError: the file cannot be read, has another shape than the volume, or values that are no whole numbers.
        """
        values = read_whole_labels(read_values(path), path)
        if values.shape != placement.shape:
            raise DataError(f"{path} has shape {values.shape}, its volume {placement.source} has {placement.shape}")
        return np.ascontiguousarray(placement.apply((values > 0).astype(np.uint8), order=0))

    def _find_axis(self, header: VolumeHeader) -> int:
        if isinstance(self.axis, int):
            return self.axis
        if header.codes is None:
            raise DataError(
                f"{header.path} does not store its orientation, so its {self.axis} axis is unknown; "
                "set data.axis to 0, 1 or 2"
            )
        return next(axis for axis, code in enumerate(header.codes) if code in AXES[str(self.axis)])

    def _normalize(self, values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.float32], float]:
        """Return normalised values, and the value outside."""
        if self.normalize == "none":
            return values, 0.0
        if self.normalize == "zscore":
            mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
            return (values - np.float32(mean)) / np.float32(std if std > 1e-12 else 1), 0.0
        normalization = IntensityNormalization("robust")
        statistics = measure(_select_slices(values, axis))
        return normalization(values, statistics), normalization.background(statistics, 1).item()


def _select_slices(values: NDArray[np.float32], axis: int) -> Sequence[NDArray[np.float32]]:
    """Slices [1, H, W], evenly spread over the volume."""
    planes = np.moveaxis(values, axis, 0)
    return [planes[place][None] for place in evenly_spaced(len(planes))]
