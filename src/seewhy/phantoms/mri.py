"""HeadPhantom: synthetic heads as NIfTI volumes with a table, as MRI classification finds them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_csv, write_json
from seewhy.io.nifti import write_nifti
from seewhy.phantoms.head import HeadRecipe, draw_head
from seewhy.phantoms.once import check_least, counted, write_once

__all__ = ["HEAD", "TABLE", "write_mri_phantom"]

HEAD = HeadRecipe()
TABLE = "cases.csv"
LABEL = "HC_vs_LTLE_vs_RTLE_string"
"""The label's column, as the reference names it; its values are `HC`, `left` and `right`."""
VERSION = 2
"""Raised whenever the same settings would draw other heads, so that old folders are not taken for new ones."""


def write_mri_phantom(
    root: str | Path,
    *,
    cases: int = 80,
    shape: Sequence[int] = (48, 56, 48),
    spacing: float = 3.0,
    seed: int = 0,
) -> Path:
    """Write `volumes/`, `masks/`, `cases.csv` and `dataset.json`; nothing happens if they are there already.

    Every head has two hippocampus-like regions, and bright spots elsewhere. Half of the heads are sound (`HC`); in
    a quarter each the `left` or the `right` region is a little smaller, brighter and mottled, and the mask says
    where. The spots are brighter still but smooth, so that only texture and place tell them from an ill region.
    Size, place, contrast, bias and noise are drawn alike for all. Volumes are stored in the orientation LAS, as
    templates of SPM and CAT12 are.

    Args:
        root: the data set's folder.
        cases: number of heads, each of a patient of its own.
        shape: voxels towards left, anterior and superior.
        spacing: mm between voxels.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no head.
        DataError: `root` holds another phantom or data that is none.
    """
    if len(shape) != 3 or spacing <= 0:
        raise ConfigError(f"phantom.shape={list(shape)} must be three numbers, phantom.spacing={spacing} above 0")
    check_least({"cases": (cases, 1), "shape": (min(shape), 24), "seed": (seed, 0)})
    settings = {
        "name": "mri", "phantom": True, "version": VERSION, "cases": cases, "shape": [int(n) for n in shape],
        "spacing": float(spacing), "seed": seed,
    }  # fmt: skip

    def write(folder: Path) -> None:
        rows = _write_heads(folder, settings)
        write_csv(folder / TABLE, rows, columns=("file", LABEL, "patient", "mask"))
        write_json(folder / "dataset.json", settings)

    return write_once(root, settings, write, files={"volumes/*.nii.gz": cases, "masks/*.nii.gz": cases}, kind="volumes")


def _write_heads(folder: Path, settings: dict[str, Any]) -> list[dict[str, str]]:
    """Draw and write all heads."""
    affine = _affine(settings["shape"], settings["spacing"])
    rows = []
    for number in counted(settings["cases"], "writing mri phantom"):
        label = ("HC", "left", "HC", "right")[number % 4]
        head = draw_head(
            HEAD, shape=tuple(settings["shape"]), ill=None if label == "HC" else label, seed=settings["seed"],
            number=number,
        )  # fmt: skip
        patient = f"H{number + 1:03d}"
        row = {
            "file": f"volumes/mwp1{patient}_T1.nii.gz", LABEL: label, "patient": patient,
            "mask": f"masks/{patient}_region.nii.gz",
        }  # fmt: skip
        write_nifti(folder / row["file"], head.image, affine=affine)
        write_nifti(folder / row["mask"], head.region, affine=affine)
        rows.append(row)
    return rows


def _affine(shape: Sequence[int], spacing: float) -> np.ndarray:
    """Orientation LAS, millimetres, with the origin off the centre as in a scan of a real head."""
    affine = np.diag([-spacing, spacing, spacing, 1.0])
    right, anterior, superior = ((length - 1) / 2 * spacing for length in shape)
    affine[:3, 3] = right + 0.5, -anterior - 18.0, -superior + 12.0
    return affine
