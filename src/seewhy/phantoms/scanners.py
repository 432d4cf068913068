"""ScannerPhantom: brains of two sites with different scanners, and how each would look at the other site."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.io.nifti import write_nifti
from seewhy.phantoms.brain import Brain, BrainRecipe, draw_brain
from seewhy.phantoms.once import check_least, counted, write_once
from seewhy.phantoms.scanner import SCANNERS, acquire

__all__ = ["BRAIN", "write_scanner_phantom"]

BRAIN = BrainRecipe()
VERSION = 1
"""Raised whenever the same settings would draw other brains, so that old folders are not taken for new ones."""
OTHER = {"a": "b", "b": "a"}
COUNTERPARTS = "counterparts"


def write_scanner_phantom(
    root: str | Path,
    *,
    subjects: Sequence[int] = (16, 16),
    shape: Sequence[int] = (56, 64, 40),
    spacing: float = 3.0,
    seed: int = 0,
) -> Path:
    """Write `a/`, `b/`, `counterparts/` and `dataset.json`; nothing happens if they are there already.

    Subjects of domain a were scanned by one scanner, those of b by the other, and nobody by both: `<domain>/<subject>/
    <subject>_<modality>.nii.gz` with t1, t1ce, t2, flair and the tumour's `seg`. Beside them
    `counterparts/<domain>/<subject>/` holds what the other domain's scanner would have seen of the same subject, the
    truth to measure a translation against. Contrast follows from relaxation times by the signal equations, so that it
    differs between the scanners tissue by tissue; contrast curve, shading, blur and noise differ too. Brains and
    tumours are drawn alike for both domains. Volumes are skull-stripped and stored as LPS, as those of BraTS.

    Args:
        root: the data set's folder.
        subjects: of domain a and of domain b.
        shape: voxels towards left, posterior and superior.
        spacing: mm between voxels.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no brain.
        DataError: `root` holds another phantom or data that is none.
    """
    if len(shape) != 3 or len(subjects) != 2 or spacing <= 0:
        raise ConfigError(
            f"phantom.shape={list(shape)} must be three numbers, phantom.subjects={list(subjects)} two, "
            f"phantom.spacing={spacing} above 0"
        )
    check_least({"subjects": (min(subjects), 1), "shape": (min(shape), 24), "seed": (seed, 0)})
    settings = {
        "name": "scanners", "phantom": True, "version": VERSION, "subjects": [int(n) for n in subjects],
        "shape": [int(n) for n in shape], "spacing": float(spacing), "seed": seed,
    }  # fmt: skip

    def write(folder: Path) -> None:
        _write_subjects(folder, settings)
        write_json(folder / "dataset.json", settings)

    files = {}
    for domain, count in zip(OTHER, subjects, strict=True):
        files[f"{domain}/*/*.nii.gz"] = 5 * count
        files[f"{COUNTERPARTS}/{domain}/*/*.nii.gz"] = 4 * count
    return write_once(root, settings, write, files=files, kind="volumes")


def _write_subjects(folder: Path, settings: dict[str, Any]) -> None:
    """Draw, scan and write everybody, twice."""
    first, _ = settings["subjects"]
    x, y, z = settings["shape"]
    for place in counted(sum(settings["subjects"]), "writing scanner phantom"):
        domain, number = ("a", place) if place < first else ("b", place - first)
        # Nobody's brain depends on how many others there are.
        key = [settings["seed"], ord(domain), number]
        brain = draw_brain(BRAIN, shape=(x, y, z), rng=np.random.default_rng([*key, 0]))
        subject = f"{domain.upper()}{number + 1:03d}"
        for scanner in OTHER:
            own = scanner == domain
            base = folder / domain if own else folder / COUNTERPARTS / domain
            rng = np.random.default_rng([*key, ord(scanner)])
            _write_scan(base / subject, subject, brain, scanner, rng, settings["spacing"], labels=own)


def _write_scan(
    folder: Path, subject: str, brain: Brain, scanner: str, rng: np.random.Generator, spacing: float, *, labels: bool
) -> None:
    """One subject by one scanner."""
    volumes: dict[str, Any] = dict(acquire(SCANNERS[scanner], brain, rng=rng))
    if labels:
        volumes["seg"] = brain.labels
    affine = _affine(brain.labels.shape, spacing)
    for name, values in volumes.items():
        # Drawn towards anterior, stored towards posterior.
        write_nifti(folder / f"{subject}_{name}.nii.gz", np.ascontiguousarray(values[:, ::-1]), affine=affine)


def _affine(shape: tuple[int, ...], spacing: float) -> np.ndarray:
    """Orientation LPS, millimetres, with the origin in the middle of the volume."""
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    left, posterior, superior = ((length - 1) / 2 * spacing for length in shape)
    affine[:3, 3] = left, posterior, -superior
    return affine
