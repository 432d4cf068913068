"""Writing a phantom as a data set on disk, in the format of real slice data sets, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.atomic import write_csv, write_json
from seewhy.io.layout import IMAGES, MANIFEST_COLUMNS, MASKS
from seewhy.io.npy import write_npy
from seewhy.phantoms.anatomy import Recipe, draw_patient
from seewhy.phantoms.once import check_least, counted, write_once

__all__ = ["write_phantom"]

VERSION = 1
"""Raised whenever the same settings would draw other pictures, so that old folders are not taken for new ones."""

Name = Callable[[int, int, int], tuple[str, str]]
"""(patient number, slice, label) → (file name, patient id)."""


def write_phantom(
    root: str | Path,
    *,
    name: str,
    file_name: Name,
    recipe: Recipe,
    modality: str,
    patients: int,
    slices: int,
    size: int,
    seed: int,
) -> Path:
    """Write `imageSlice/`, `maskSlice/`, `manifest.csv` and `dataset.json`, or reuse the same phantom.

    Args:
        root: the data set's folder; made when it is not there.
        name: of the kind of phantom.
        file_name: names the files and the patients.
        recipe: what the patients look like.
        modality: told in the manifest.
        patients: number of patients.
        slices: number of slices per patient.
        size: pixels per side.
        seed: of every draw.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no patient.
        DataError: `root` holds something else.
    """
    check_least({"patients": (patients, 1), "slices": (slices, 1), "size": (size, 32), "seed": (seed, 0)})
    settings = {
        "name": name, "phantom": True, "version": VERSION, "modality": modality, "patients": patients,
        "slices": slices, "size": size, "seed": seed,
    }  # fmt: skip

    def write(folder: Path) -> None:
        rows = _write_patients(folder, settings, file_name, recipe)
        write_csv(folder / "manifest.csv", rows, columns=MANIFEST_COLUMNS)
        write_json(folder / "dataset.json", settings)

    files = {f"{part}/*.npy": patients * slices for part in (IMAGES, MASKS)}
    return write_once(root, settings, write, files=files, kind="slices")


def _write_patients(folder: Path, settings: dict[str, Any], file_name: Name, recipe: Recipe) -> list[dict[str, Any]]:
    """Draw and write all patients."""
    rows: list[dict[str, Any]] = []
    for number in counted(settings["patients"], f"writing {settings['name']} phantom"):
        volume, mask = draw_patient(
            recipe, slices=settings["slices"], size=settings["size"], seed=settings["seed"], number=number
        )
        rows += _write_slices(folder, number, volume, mask, file_name, settings)
    return rows


def _write_slices(
    folder: Path,
    number: int,
    volume: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    file_name: Name,
    settings: dict[str, Any],
) -> list[dict[str, Any]]:
    """Write the slices of one patient and give their rows of the manifest."""
    rows = []
    spacing = 240 / settings["size"]  # a field of view of 240 mm, as a head scan has
    for index, (image, region) in enumerate(zip(volume, mask, strict=True)):
        label = int(region.any())
        name, patient = file_name(number, index, label)
        write_npy(folder / IMAGES / name, image)
        write_npy(folder / MASKS / name, region)
        rows.append({
            "file": name, "patient": patient, "slice": index, "label": label, "area": int(region.sum()),
            "modality": settings["modality"], "source": "", "spacing_row": spacing, "spacing_col": spacing,
            "spacing_slice": 5.0,
        })  # fmt: skip
    return rows
