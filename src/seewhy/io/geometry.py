"""How a stored slice must be turned to be seen as a radiologist sees it.

Where the voxels of a volume lie in the scanner's space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError

__all__ = ["Display", "Geometry", "display_of_plane"]


@dataclass(frozen=True)
class Geometry:
    """The grid of a 3D volume.

    Attributes:
        shape: voxels along the three array axes, as stored.
        affine: [4, 4] float64, from voxel indices to millimetres in RAS+ (right, anterior, superior) space.
        oriented: whether the file says so itself; else the affine only holds the spacing, or a guess.
    """

    shape: tuple[int, int, int]
    affine: NDArray[Any]
    oriented: bool = True

    def __post_init__(self) -> None:
        """Refuse an affine that places no voxels."""
        if self.affine.shape != (4, 4):
            raise DataError(f"affine of shape {self.affine.shape}; expected (4, 4)")
        if not np.isfinite(self.affine).all():
            raise DataError("affine holds NaN or infinite values; expected finite millimetres")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along each array axis."""
        row, column, plane = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(row), float(column), float(plane)

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """Where the three array axes point to, each by the body's nearest direction: R or L, A or P, S or I."""
        first, second, third = nib.orientations.aff2axcodes(self.affine)
        return str(first), str(second), str(third)

    def difference(self, other: Geometry, *, tolerance: float = 1e-2) -> str | None:
        """Say how another grid differs from this one, or give None where they match.

        Args:
            other: the grid to compare with.
            tolerance: millimetres by which the positions of the volume's corners may differ; files written by
                different tools round the same affine differently.
        """
        if self.shape != other.shape:
            return f"shape {other.shape}, expected {self.shape}"
        corners = np.array(
            [[i, j, k, 1] for i in (0, self.shape[0]) for j in (0, self.shape[1]) for k in (0, self.shape[2])]
        )
        apart = np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max()
        if apart > tolerance:
            return f"another affine (corners lie up to {apart:.3g} mm apart)"
        return None


@dataclass(frozen=True, kw_only=True)
class Display:
    """From a stored slice to its picture: first transpose, then flip; files and arrays stay as they are.

    Attributes:
        transpose: stored columns become the picture's rows.
        flip_rows: turn the picture upside down.
        flip_columns: mirror the picture.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def record(self) -> dict[str, bool]:
        """Plain data for dataset.json."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: object, *, where: str) -> Display:
        """Read what `record` gave.

        Args:
            record: a mapping, names → true or false; what is absent is false.
            where: named in errors.

        Raises:
            DataError: no mapping, other names, or values that are neither true nor false.
        """
        known = cls().record()
        if not isinstance(record, Mapping):
            raise DataError(f"display is {record!r}; expected true or false for {', '.join(known)}", where=where)
        wrong = [f"{key}={value!r}" for key, value in record.items() if key not in known or not isinstance(value, bool)]
        if wrong:
            raise DataError(
                f"display holds {', '.join(wrong)}; expected true or false for {', '.join(known)}", where=where
            )
        return cls(**record)


def display_of_plane(geometry: Geometry, *, axis: int = 2) -> Display:
    """Turn the slices of a volume by the radiological convention.

    The picture's rows run anterior → posterior in an axial slice and superior → inferior in the others; its
    columns run from the patient's right to the left, in a sagittal slice anterior → posterior. Oblique axes
    count as the nearest of the body's axes.

    Args:
        geometry: of the volume.
        axis: the axis that was cut; rows and columns are the other two in stored order.
    """
    codes = [code for position, code in enumerate(geometry.axis_codes) if position != axis]
    # Rows are the body's vertical where the plane holds it, else front to back.
    transpose = any(code in "SI" for code in codes[1:]) or codes[0] in "RL"
    row, column = reversed(codes) if transpose else codes
    return Display(transpose=transpose, flip_rows=row in "AS", flip_columns=column in "RA")
