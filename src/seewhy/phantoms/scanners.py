"""ScannerPhantom: brains of two sites with different scanners, and how each would look at the other site.

Two simulated scanners: the same brain in other contrast, brightness across the head, sharpness and noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.io.nifti import write_nifti
from seewhy.phantoms.brain import Brain, BrainRecipe, draw_brain
from seewhy.phantoms.fields import FloatArray, frame_of, smooth_field
from seewhy.phantoms.write_cached import check_least, counted, write_once

__all__ = ["BRAIN", "SCANNERS", "PulseSequence", "Scanner", "acquire", "write_scanner_phantom"]


@dataclass(frozen=True)
class PulseSequence:
    """Times of a spin-echo sequence in ms.

    Attributes:
        repetition: TR.
        echo: TE.
        inversion: TI, or None for a sequence without inversion.
    """

    repetition: float
    echo: float
    inversion: float | None = None

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray) -> FloatArray:
        """Magnitude of the signal, by the Bloch equations' solutions (Haacke et al. 1999, ch. 8).

        Spin echo: density · (1 - exp(-TR/T1)) · exp(-TE/T2); with inversion
        density · |1 - 2 exp(-TI/T1) + exp(-TR/T1)| · exp(-TE/T2).
        """
        recovered = 1 - np.exp(-self.repetition / t1)
        if self.inversion is not None:
            recovered = np.abs(1 - 2 * np.exp(-self.inversion / t1) + np.exp(-self.repetition / t1))
        return np.asarray(density * recovered * np.exp(-self.echo / t2), np.float32)


@dataclass(frozen=True)
class Scanner:
    """What a scanner makes of a brain.

    Attributes:
        sequences: modality → times.
        curve: exponent of the contrast curve; below 1 dark tissue is lifted.
        shading: change of brightness from the back of the head to the front, relative: the coil's field, the same
            for everybody.
        bias: standard deviation of the logarithm of a smooth field besides, drawn for each scan.
        blur: standard deviation of the point spread in voxels, within and across slices.
        noise: standard deviation of the Rician noise, relative to full scale.
        gain: ends of the draw of the scan's full scale.
    """

    sequences: Mapping[str, PulseSequence]
    curve: float
    shading: float
    bias: float
    blur: float
    noise: float
    gain: tuple[float, float]


SCANNERS = {
    "a": Scanner(
        sequences={
            "t1": PulseSequence(550, 12),
            "t1ce": PulseSequence(550, 12),
            "t2": PulseSequence(4500, 100),
            "flair": PulseSequence(9000, 120, 2450),
        },
        curve=1.0,
        shading=0.05,
        bias=0.03,
        blur=0.35,
        noise=0.010,
        gain=(900, 1200),
    ),
    "b": Scanner(
        sequences={
            "t1": PulseSequence(650, 14),
            "t1ce": PulseSequence(650, 14),
            "t2": PulseSequence(3000, 75),
            "flair": PulseSequence(7000, 90, 2150),
        },
        curve=0.75,
        shading=0.20,
        bias=0.03,
        blur=0.70,
        noise=0.015,
        gain=(250, 500),
    ),
}
"""One that is sharp and even, and one that is blurred and shaded with flatter contrast."""


def acquire(scanner: Scanner, brain: Brain, *, rng: np.random.Generator) -> dict[str, NDArray[np.int16]]:
    """Scan a brain in all modalities; as after skull stripping, all outside the brain is 0.

    Args:
        scanner: which.
        brain: whose.
        rng: of noise, bias and gain.

    Returns:
        Modality → [X, Y, Z] int16; inside the brain at least 1.
    """
    scans = {}
    shape = brain.inside.shape
    # The skull is stripped after scanning, so what lies outside does not darken the brain's rim.
    share = np.maximum(gaussian_filter(brain.inside.astype(np.float32), scanner.blur), 1e-3)
    coil = np.exp(scanner.shading * frame_of((shape[0], shape[1], shape[2])).y)
    for name in MODALITIES:
        t1 = brain.t1_enhanced if name == "t1ce" else brain.t1
        clean = scanner.sequences[name].signal(t1, brain.t2, brain.density)
        clean = clean / np.float32(np.percentile(clean[brain.inside], 99.5))
        curved = gaussian_filter(np.power(clean, np.float32(scanner.curve)), scanner.blur) / share
        field = np.exp(scanner.bias * smooth_field(rng, (shape[0], shape[1], shape[2]), 14))
        real = curved * coil * field + scanner.noise * rng.standard_normal(shape, dtype=np.float32)
        imaginary = scanner.noise * rng.standard_normal(shape, dtype=np.float32)
        values = np.rint(rng.uniform(*scanner.gain) * np.hypot(real, imaginary))
        scans[name] = np.where(brain.inside, np.maximum(values, 1), 0).astype(np.int16)
    return scans


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
