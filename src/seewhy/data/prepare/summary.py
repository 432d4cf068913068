"""What a preparation did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Summary"]


@dataclass
class Summary:
    """Counts of a prepared data set.

    Attributes:
        destination: the data set.
        written: patients written by this call.
        kept: patients that were complete before.
        left_out: patient → why it is not in the data set.
        slices: slices of the whole data set.
        positive: those with label 1.
        automatic: patients whose masks were made by software.
        negative_with_lesion: slices with some lesion that the label rule calls negative.
    """

    destination: Path
    written: int = 0
    kept: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    slices: int = 0
    positive: int = 0
    negative_with_lesion: int = 0
    automatic: list[str] = field(default_factory=list)

    @property
    def patients(self) -> int:
        """Patients in the data set."""
        return self.written + self.kept
