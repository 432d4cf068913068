"""Write a phantom as a whole in the real format, or reuse an equal one; other data are never overwritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder, write_csv, write_json
from seewhy.io.documents import read_json
from seewhy.io.npy import write_npy
from seewhy.io.slices import IMAGES, MANIFEST_COLUMNS, MASKS
from seewhy.progress import track_slowly

__all__ = ["check_minimums", "write_or_reuse", "write_slice_phantom"]

RECORD = "dataset.json"
REMEDY = "set another data.root, or delete that folder so that the phantom is written again"
Name = Callable[[int, int, int], tuple[str, str]]
"""(patient number, slice, label) → (file name, patient id)."""
Draw = Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Patient number → volume and mask [S, H, W]."""


def write_or_reuse(
    root: str | Path,
    settings: Mapping[str, Any],
    write: Callable[[Path], None],
    *,
    files: Mapping[str, int],
    kind: str,
) -> Path:
    """Write a data set, or reuse the one that was written with the same settings.

    Args:
        root: the data set's folder; made when it is not there.
        settings: everything that the files depend on, as plain data, with `phantom: True`; kept as `dataset.json`.
        write: writes all other files into an empty folder.
        files: glob pattern → number of files; a folder with another number is not reused.
        kind: plural noun for those files, for messages.

    Returns:
        `root` as a path.

    Raises:
        DataError: `root` holds something else.
    """
    final = Path(root)
    if _is_reusable(final, settings, files, kind):
        return final
    try:
        with atomic_folder(final) as folder:
            write(folder)
            write_json(folder / RECORD, settings)
    except OSError:
        # Another process (a second rank, a sweep's member) may have finished the same phantom first.
        if not _is_reusable(final, settings, files, kind):
            raise
    return final


def check_minimums(minimums: Mapping[str, tuple[int, int]]) -> None:
    """Check that numbers are not below their minimum.

    Args:
        minimums: option of the phantom → (value, minimum).

    Raises:
        ConfigError: all numbers that are too small.
    """
    wrong = [f"phantom.{key}={value} must be at least {low}" for key, (value, low) in minimums.items() if value < low]
    if wrong:
        raise ConfigError("; ".join(wrong))


def _is_reusable(root: Path, settings: Mapping[str, Any], files: Mapping[str, int], kind: str) -> bool:
    """Return whether `root` holds exactly this phantom; False if it is missing or empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / RECORD
    if not record.is_file():
        raise DataError(f"{root} exists but holds no phantom ({RECORD} is missing); {REMEDY}")
    try:
        stored = read_json(record)
    except DataError as error:
        raise DataError(f"{error}; {REMEDY}") from error
    if not stored.get("phantom"):
        raise DataError(f"{root} holds a data set that is not a phantom; {REMEDY}")
    differing = [
        f"{key} is {stored.get(key)!r}, expected {value!r}"
        for key, value in settings.items()
        if stored.get(key) != value
    ]
    if differing:
        raise DataError(f"{root} holds another phantom ({'; '.join(differing)}); {REMEDY}")
    for pattern, expected in files.items():
        count = sum(1 for _ in root.glob(pattern))
        if count != expected:
            raise DataError(f"{(root / pattern).parent} holds {count} {kind}, expected {expected}; {REMEDY}")
    return True


# -- slice data sets ------------------------------------------------------------------------------------------


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
