"""Write slice phantoms in the real format: slices, masks, manifest and description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.atomic import write_csv
from seewhy.io.npy import write_npy
from seewhy.io.slices import IMAGES, MANIFEST_COLUMNS, MASKS
from seewhy.phantoms.write_cached import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = ["write_slice_phantom"]

Name = Callable[[int, int, int], tuple[str, str]]
"""(patient number, slice, label) → (file name, patient id)."""
Draw = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Patient number → volume and mask [S, H, W]."""


def write_slice_phantom(
    root: str | Path,
    draw: Draw,
    *,
    settings: Mapping[str, Any],
    file_name: Name,
    field_of_view: float,
    thickness: float,
) -> Path:
    """Write `imageSlice/`, `maskSlice/`, `manifest.csv` and `dataset.json`, or reuse the same phantom.

    Args:
        root: the data set's folder.
        draw: draws the patient of a number.
        settings: everything that the pictures depend on, with `name`, `modality`, `patients`, `slices`, `size` and
            `seed`.
        file_name: names a slice.
        field_of_view: side of a slice in mm.
        thickness: distance of slices in mm.
    """
    patients, slices, size = (int(settings[key]) for key in ("patients", "slices", "size"))
    check_minimums({
        "patients": (patients, 1), "slices": (slices, 1), "size": (size, 32), "seed": (settings["seed"], 0)
    })  # fmt: skip

    def write(folder: Path) -> None:
        rows: list[dict[str, Any]] = []
        for number in track_slowly(range(patients), f"writing {settings['name']} phantom"):
            volume, mask = draw(number)
            shared = {
                "modality": settings["modality"], "source": "", "spacing_row": field_of_view / size,
                "spacing_col": field_of_view / size, "spacing_slice": thickness,
            }  # fmt: skip
            rows += _write_slices(folder, number, volume, mask, file_name, shared)
        write_csv(folder / "manifest.csv", rows, columns=MANIFEST_COLUMNS)

    files = {f"{part}/*.npy": patients * slices for part in (IMAGES, MASKS)}
    return write_or_reuse(root, settings, write, files=files, kind="slices")


def _write_slices(
    folder: Path,
    number: int,
    volume: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    file_name: Name,
    shared: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Write the slices of one patient and return their rows of the manifest."""
    rows = []
    for index, (image, region) in enumerate(zip(volume, mask, strict=True)):
        label = int(region.any())
        name, patient = file_name(number, index, label)
        write_npy(folder / IMAGES / name, image)
        write_npy(folder / MASKS / name, region)
        rows.append({
            "file": name, "patient": patient, "slice": index, "label": label, "area": int(region.sum()), **shared
        })  # fmt: skip
    return rows
