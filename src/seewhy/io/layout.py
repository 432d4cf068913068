"""The layout of a slice data set on disk, shared by those that write one and those that read it."""

from __future__ import annotations

import re

__all__ = ["IMAGES", "MANIFEST_COLUMNS", "MASKS", "natural_key"]

IMAGES, MASKS = "imageSlice", "maskSlice"
"""Folders of a data set; an image and its mask have the same file name."""

MANIFEST_COLUMNS = (
    "file", "patient", "slice", "label", "area", "modality", "source",
    "spacing_row", "spacing_col", "spacing_slice",
)  # fmt: skip
"""Of `manifest.csv`: area in lesion pixels, source the volume's path, slice its index there, spacing in mm."""


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorting key in which `slice_10` comes after `slice_2`."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)
