"""How a stored slice must be turned to be seen as a radiologist sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry

__all__ = ["Display", "display_of_plane"]


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
