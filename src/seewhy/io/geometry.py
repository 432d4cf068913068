"""Grid of a volume in scanner space, and the radiological display of its slices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError

__all__ = [
    "SAME_SPACING",
    "Display",
    "Geometry",
    "affine_problem",
    "display_of_plane",
    "format_mm",
    "spacing_difference",
]

TURNS = ("transpose", "flip_rows", "flip_columns")
PLANES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
"""Plane of the body → its sides at the left and right of a picture, in the radiological convention."""
ACROSS = {"axial": "SI", "coronal": "AP", "sagittal": "RL"}
"""Plane of the body → directions of the axis across it."""
FLAT = 1e-4
"""Share of the volume of a right-angled voxel below which axes lie in a plane."""
SAME_SPACING = 0.1
"""Largest relative difference of voxel sizes that count as the same."""


@dataclass(frozen=True)
class Geometry:
    """The grid of a 3D volume.

    Attributes:
        shape: voxels along the three array axes, as stored.
        affine: [4, 4] float64, from voxel indices to millimetres in RAS+ (right, anterior, superior) space.
        oriented: whether the file states the orientation; otherwise the affine only holds the spacing, or a guess.

    Example:
        >>> geometry = Geometry(shape=(240, 240, 155), affine=np.diag([-1.0, -1.0, 1.0, 1.0]))
        >>> geometry.axis_codes, geometry.spacing
        (('L', 'P', 'S'), (1.0, 1.0, 1.0))
    """

    shape: tuple[int, int, int]
    affine: NDArray[Any]
    oriented: bool = True

    def __post_init__(self) -> None:
        """Check that the affine is a finite, invertible [4, 4] matrix."""
        problem = affine_problem(self.affine)
        if problem:
            raise DataError(f"affine {problem}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along each array axis."""
        row, column, plane = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(row), float(column), float(plane)

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """Nearest body direction of each array axis: R or L, A or P, S or I."""
        first, second, third = nib.orientations.aff2axcodes(self.affine)
        return str(first), str(second), str(third)

    def difference(self, other: Geometry, *, tolerance: float | None = None) -> str | None:
        """Describe how another grid differs from this one; None if they match.

        Args:
            other: grid to compare with.
            tolerance: allowed distance of the volume's corners in millimetres, because different tools round the same
                affine differently; None takes 0.01 mm, or 5 % of the smallest voxel side if that is less.
        """
        if self.shape != other.shape:
            return f"shape {other.shape}, expected {self.shape}"
        corners = np.array(
            [[i, j, k, 1] for i in (0, self.shape[0]) for j in (0, self.shape[1]) for k in (0, self.shape[2])]
        )
        distance = np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max()
        if distance <= (min(1e-2, 0.05 * min(self.spacing)) if tolerance is None else tolerance):
            return None
        facts = []
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3, atol=0):
            facts.append(f"voxels of {format_mm(other.spacing)}, expected {format_mm(self.spacing)}; ")
        if self.axis_codes != other.axis_codes:
            facts.append(f"stored as {''.join(other.axis_codes)}, expected {''.join(self.axis_codes)}; ")
        return f"another affine ({''.join(facts)}corners differ by up to {distance:.3g} mm)"


def spacing_difference(spacing: Sequence[float], wanted: Sequence[float]) -> float:
    """Largest relative difference of two voxel sizes; axes whose wanted size is NaN (any size) are ignored."""
    known = [(size, target) for size, target in zip(spacing, wanted, strict=True) if not math.isnan(target)]
    return max((abs(size / target - 1) for size, target in known), default=0.0)


def format_mm(spacing: Sequence[float]) -> str:
    """Format a voxel size; NaN is any size.

    Example:
        >>> format_mm((0.5, 0.5, float("nan")))
        '0.5 × 0.5 × any mm'
    """
    return " × ".join("any" if math.isnan(size) else f"{size:.3g}" for size in spacing) + " mm"  # noqa: RUF001


def affine_problem(affine: NDArray[Any]) -> str | None:
    """Describe why a matrix cannot map voxels to millimetres; None if it can.

    Example:
        >>> affine_problem(np.diag([1.0, 1.0, 0.0, 1.0]))
        'gives voxels of 1 x 1 x 0 mm; expected sizes above 0'
    """
    if affine.shape != (4, 4):
        return f"has shape {affine.shape}; expected (4, 4)"
    if not np.isfinite(affine).all():
        return "has NaN or infinite values; expected finite millimetres"
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if sizes.min() == 0:
        return f"gives voxels of {' x '.join(f'{size:g}' for size in sizes)} mm; expected sizes above 0"
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < FLAT:
        return "has three axes in one plane; expected axes that span space"
    return None


@dataclass(frozen=True, kw_only=True)
class Display:
    """Orientation of a slice in a picture: first transpose, then flip; stored arrays are not changed.

    Attributes:
        transpose: stored columns become rows of the picture.
        flip_rows: flip the picture upside down.
        flip_columns: mirror the picture left to right.
        plane: `axial`, `coronal` or `sagittal` where known; does not count in comparisons.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    plane: str = field(default="", compare=False)

    @property
    def sides(self) -> tuple[str, str] | None:
        """Sides of the body at the left and at the right of the picture, e.g. `("R", "L")`; None if unknown."""
        return PLANES.get(self.plane)

    @property
    def turns(self) -> tuple[bool, bool, bool]:
        """Transpose, flip rows and flip columns."""
        return self.transpose, self.flip_rows, self.flip_columns

    def record(self) -> dict[str, bool | str]:
        """Plain data for dataset.json."""
        return dict(zip(TURNS, self.turns, strict=True)) | ({"plane": self.plane} if self.plane else {})

    @classmethod
    def from_record(cls, record: object, *, where: str) -> Display:
        """Restore from `record`.

        Args:
            record: mapping of names to true or false; missing names are false.
            where: name in error messages.

        Raises:
            DataError: not a mapping, unknown names, or values that are neither true nor false.
        """
        expected = f"true or false for {', '.join(TURNS)}"
        if not isinstance(record, Mapping):
            raise DataError(f"display is {record!r}; expected {expected}", where=where)
        wrong = [
            f"{key}={value!r}"
            for key, value in record.items()
            if not (key in TURNS and isinstance(value, bool)) and not (key == "plane" and value in ("", *PLANES))
        ]
        if wrong:
            raise DataError(f"display has {', '.join(wrong)}; expected {expected}", where=where)
        return cls(**record)


def display_of_plane(geometry: Geometry, *, axis: int = 2) -> Display:
    """Display of a volume's slices in the radiological convention.

    Rows of the picture run anterior → posterior in an axial slice and superior → inferior in the others; columns run
    from the patient's right to left, in a sagittal slice anterior → posterior. Oblique axes count as the nearest body
    axes.

    Args:
        geometry: of the volume.
        axis: axis along which the slices were cut; rows and columns are the other two in stored order.

    Example:
        >>> geometry = Geometry(shape=(240, 240, 155), affine=np.eye(4))
        >>> display_of_plane(geometry, axis=2)
        Display(transpose=True, flip_rows=True, flip_columns=True, plane='axial')
    """
    codes = [code for position, code in enumerate(geometry.axis_codes) if position != axis]
    # Rows are the vertical axis of the body if the plane contains it, otherwise anterior-posterior.
    transpose = any(code in "SI" for code in codes[1:]) or codes[0] in "RL"
    row, column = reversed(codes) if transpose else codes
    plane = next((name for name, across in ACROSS.items() if geometry.axis_codes[axis] in across), "")
    return Display(transpose=transpose, flip_rows=row in "AS", flip_columns=column in "RA", plane=plane)
