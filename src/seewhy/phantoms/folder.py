"""Writing a phantom as a data set on disk, in the format of real slice data sets, whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder, write_csv, write_json
from seewhy.io.layout import IMAGES, MANIFEST_COLUMNS, MASKS
from seewhy.io.npy import write_npy
from seewhy.phantoms.anatomy import Recipe, draw_patient

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
    final = Path(root)
    _check_numbers(patients=patients, slices=slices, size=size, seed=seed)
    settings = {
        "name": name, "phantom": True, "version": VERSION, "modality": modality, "patients": patients,
        "slices": slices, "size": size, "seed": seed,
    }  # fmt: skip
    if _reusable(final, settings):
        return final
    try:
        with atomic_folder(final) as folder:
            rows = _write_patients(folder, settings, file_name, recipe)
            write_csv(folder / "manifest.csv", rows, columns=MANIFEST_COLUMNS)
            write_json(folder / "dataset.json", settings)
    except OSError:
        # Another process (a second rank, a sweep's member) may have finished the same phantom first.
        if not _reusable(final, settings):
            raise
    return final


def _check_numbers(*, patients: int, slices: int, size: int, seed: int) -> None:
    least = {"patients": (patients, 1), "slices": (slices, 1), "size": (size, 32), "seed": (seed, 0)}
    wrong = [f"phantom.{key}={value} must be at least {low}" for key, (value, low) in least.items() if value < low]
    if wrong:
        raise ConfigError("; ".join(wrong))


def _reusable(root: Path, settings: dict[str, Any]) -> bool:
    """Whether `root` holds exactly this phantom; False when nothing is there."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / "dataset.json"
    remedy = "give another data.root, or delete that folder to have the phantom written anew"
    if not record.is_file():
        raise DataError(f"{root} exists and is no phantom (it has no dataset.json); {remedy}")
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{record} is no JSON ({error}); {remedy}") from error
    if not isinstance(found, dict) or not found.get("phantom"):
        raise DataError(f"{root} holds a data set that is no phantom; {remedy}")
    differing = [
        f"{key} is {found.get(key)!r}, asked for {value!r}"
        for key, value in settings.items()
        if found.get(key) != value
    ]
    if differing:
        raise DataError(f"{root} holds another phantom ({'; '.join(differing)}); {remedy}")
    expected = settings["patients"] * settings["slices"]
    for part in (IMAGES, MASKS):
        count = sum(1 for _ in (root / part).glob("*.npy"))
        if count != expected:
            raise DataError(f"{root / part} holds {count} slices, the phantom had {expected}; {remedy}")
    return True


def _write_patients(folder: Path, settings: dict[str, Any], file_name: Name, recipe: Recipe) -> list[dict[str, Any]]:
    """Draw and write all patients; a bar appears when it takes more than two seconds."""
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task(f"writing {settings['name']} phantom", total=settings["patients"])
    try:
        for number in range(settings["patients"]):
            if time.monotonic() - started > 2:
                progress.start()
            volume, mask = draw_patient(
                recipe, slices=settings["slices"], size=settings["size"], seed=settings["seed"], number=number
            )
            rows += _write_slices(folder, number, volume, mask, file_name, settings)
            progress.advance(task)
    finally:
        progress.stop()
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
