"""Draw and write the scanner phantom: brains of two sites, each also as the other site's scanner would show it.

A brain is a map of relaxation times and proton density, most with a tumour; a scanner turns it into images by the
signal equations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError
from seewhy.io.nifti import write_nifti
from seewhy.option_types import NonNegativeInt, PositiveFloat
from seewhy.phantoms.drawing import FloatArray, Frame, draw_field, make_frame, soft_step
from seewhy.phantoms.writing import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = [
    "BRAIN",
    "SCANNERS",
    "TISSUES",
    "Brain",
    "BrainRecipe",
    "PulseSequence",
    "Scanner",
    "acquire_scans",
    "draw_brain",
    "write_scan",
    "write_scanner_phantom",
]

VERSION = 1
"""Raised whenever the same settings draw other brains, so that older folders are not reused."""
OTHER = {"a": "b", "b": "a"}
COUNTERPARTS = "counterparts"

TISSUES: dict[str, tuple[float, float, float]] = {
    "fluid": (4000.0, 1500.0, 1.00),
    "gray": (1300.0, 100.0, 0.82),
    "white": (830.0, 75.0, 0.70),
    "oedema": (1550.0, 160.0, 0.88),
    "core": (2100.0, 230.0, 0.92),
    "enhancing": (1450.0, 120.0, 0.86),
}
"""T1 and T2 in ms at about 1.5 T, and proton density relative to fluid: typical values, not those of a person."""
LABELS = {"core": 1, "oedema": 2, "enhancing": 4}
"""Labels of the annotation, as in BraTS."""


@dataclass(frozen=True)
class BrainRecipe:
    """Appearance of the brains; lengths are in units of half the volume, pairs are the limits of uniform draws.

    Attributes:
        radii: smallest and largest half axes, towards left, anterior and superior.
        tumour: share of brains with a tumour.
        radius: radius of a tumour with its oedema.
        enhanced: T1 of enhancing tissue after contrast agent, relative to before.
        variation: standard deviation of the relaxation times from brain to brain, relative.
        texture: the same within a tissue, as a smooth field.
    """

    radii: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.78, 0.80, 0.78), (0.88, 0.92, 0.90))
    tumour: float = 0.85
    radius: tuple[float, float] = (0.22, 0.42)
    enhanced: float = 0.35
    variation: float = 0.03
    texture: float = 0.04


@dataclass(frozen=True)
class Brain:
    """One synthetic brain without skull; axes run to the patient's left, to anterior and to superior.

    Attributes:
        t1: [X, Y, Z] float32 ms.
        t1_enhanced: the same after contrast agent.
        t2: [X, Y, Z] float32 ms.
        density: [X, Y, Z] float32, protons relative to fluid; 0 outside the brain.
        inside: [X, Y, Z] bool.
        labels: [X, Y, Z] uint8, 0 or the tumour's labels 1 (core), 2 (oedema), 4 (enhancing).
    """

    t1: FloatArray
    t1_enhanced: FloatArray
    t2: FloatArray
    density: FloatArray
    inside: NDArray[np.bool_]
    labels: NDArray[np.uint8]


def draw_brain(recipe: BrainRecipe, *, shape: tuple[int, int, int], rng: np.random.Generator) -> Brain:
    """Draw one brain.

    Args:
        recipe: appearance of the brains.
        shape: voxels towards left, anterior and superior.
        rng: random generator of this brain.
    """
    frame = make_frame(shape)
    level = _draw_level(rng, recipe, frame)
    inside = level < 1
    shares = _draw_tissues(rng, frame, level)
    labels = np.zeros(shape, np.uint8)
    tumour = _draw_tumour(rng, recipe, frame, level)
    if rng.uniform() < recipe.tumour:
        for name, region in tumour.items():
            shares = {other: share * (1 - region) for other, share in shares.items()}
            shares[name] = region
            labels[(region > 0.5) & inside] = LABELS[name]
    t1, t2, density = _mix_properties(rng, recipe, shares)
    lowered = 1 - (1 - recipe.enhanced) * shares.get("enhancing", np.float32(0))
    return Brain(
        t1=t1,
        t1_enhanced=np.asarray(t1 * lowered, np.float32),
        t2=t2,
        density=np.where(inside, density, 0).astype(np.float32),
        inside=inside,
        labels=labels,
    )


def _draw_level(rng: np.random.Generator, recipe: BrainRecipe, frame: Frame) -> FloatArray:
    """Draw the level of the brain, below 1 inside."""
    radii, shift = rng.uniform(*recipe.radii), rng.normal(0, 0.02, 3)
    square = sum(
        ((axis - move) / radius) ** 2
        for axis, move, radius in zip((frame.x, frame.y, frame.z), shift, radii, strict=True)
    )
    return np.asarray(np.sqrt(square) + 0.02 * draw_field(rng, frame.shape, 5), np.float32)


def _draw_tissues(rng: np.random.Generator, frame: Frame, level: FloatArray) -> dict[str, FloatArray]:
    """Draw the share of each healthy tissue in each voxel; the shares add up to 1."""
    folds = level + 0.055 * draw_field(rng, frame.shape, 2) + 0.03 * draw_field(rng, frame.shape, 4)
    apart = rng.uniform(0.10, 0.15)
    ventricle = ((np.abs(frame.x) - apart) / 0.07) ** 2 + ((frame.y - 0.02) / 0.34) ** 2
    ventricle = ventricle + ((frame.z - 0.10) / rng.uniform(0.14, 0.26)) ** 2 + 0.2 * draw_field(rng, frame.shape, 3)
    fissure = np.maximum(np.abs(frame.x) / 0.03, (0.6 - level) / 0.05 + 1)
    nucleus = ((np.abs(frame.x) - apart - 0.16) / 0.12) ** 2 + ((frame.y + 0.02) / 0.26) ** 2 + (frame.z / 0.22) ** 2
    fluid = np.maximum.reduce([soft_step(ventricle, 0.2), soft_step(fissure, 0.3), soft_step(-level, 0.02, -0.955)])
    gray = np.maximum(soft_step(-folds, 0.03, -0.74), soft_step(nucleus, 0.2)) * (1 - fluid)
    return {"fluid": fluid, "gray": gray, "white": 1 - fluid - gray}


def _draw_tumour(
    rng: np.random.Generator, recipe: BrainRecipe, frame: Frame, level: FloatArray
) -> dict[str, FloatArray]:
    """Draw oedema, and in it the enhancing rim of a core: shares of each voxel, the later ones on top."""
    allowed = np.argwhere(level < 0.66)
    i, j, k = allowed[rng.integers(len(allowed))]
    square = (frame.x - frame.x[i]) ** 2 + (frame.y - frame.y[:, j]) ** 2 + (frame.z - frame.z[..., k]) ** 2
    radius, inner = rng.uniform(*recipe.radius), rng.uniform(0.45, 0.65)
    distance = np.sqrt(square) / radius
    rough = distance + 0.16 * draw_field(rng, frame.shape, 3)
    lumpy = distance + 0.06 * draw_field(rng, frame.shape, 2)
    return {
        "oedema": soft_step(rough, 0.05),
        "enhancing": soft_step(lumpy, 0.04, inner),
        "core": soft_step(lumpy, 0.04, inner * rng.uniform(0.55, 0.75)),
    }


def _mix_properties(
    rng: np.random.Generator, recipe: BrainRecipe, shares: dict[str, FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mix T1, T2 and density by the shares of a voxel; relaxation rates add up, and vary from brain to brain."""
    shape = shares["fluid"].shape
    rates = [np.zeros(shape, np.float32) for _ in range(2)]
    density = np.zeros(shape, np.float32)
    for name, (*times, protons) in TISSUES.items():
        factors = np.exp(recipe.variation * rng.standard_normal(2))
        if name not in shares:
            continue
        for rate, time, factor in zip(rates, times, factors, strict=True):
            rate += shares[name] / np.float32(time * factor)
        density += shares[name] * np.float32(protons)
    texture = np.exp(recipe.texture * draw_field(rng, shape, 1.2))
    t1, t2 = (np.asarray(texture / np.maximum(rate, 1e-6), np.float32) for rate in rates)
    return t1, t2, density


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
        """Compute the signal's magnitude from the solutions of the Bloch equations (Haacke et al. 1999, ch. 8).

        Spin echo: density · (1 - exp(-TR/T1)) · exp(-TE/T2); with inversion
        density · |1 - 2 exp(-TI/T1) + exp(-TR/T1)| · exp(-TE/T2).
        """
        recovered = 1 - np.exp(-self.repetition / t1)
        if self.inversion is not None:
            recovered = np.abs(1 - 2 * np.exp(-self.inversion / t1) + np.exp(-self.repetition / t1))
        return np.asarray(density * recovered * np.exp(-self.echo / t2), np.float32)


@dataclass(frozen=True)
class Scanner:
    """Imaging properties of a scanner.

    Attributes:
        sequences: modality → pulse sequence.
        curve: exponent of the contrast curve; below 1 it brightens dark tissue.
        shading: change of brightness from the back of the head to the front, relative: the coil's field, the same
            for all subjects.
        bias: standard deviation of the logarithm of a second smooth field, drawn for each scan.
        blur: standard deviation of the point spread in voxels, within and across slices.
        noise: standard deviation of the Rician noise, relative to full scale.
        gain: limits of the draw of the scan's full scale.
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
        curve=1.0, shading=0.05, bias=0.03, blur=0.35, noise=0.010, gain=(900, 1200),
    ),
    "b": Scanner(
        sequences={
            "t1": PulseSequence(650, 14),
            "t1ce": PulseSequence(650, 14),
            "t2": PulseSequence(3000, 75),
            "flair": PulseSequence(7000, 90, 2150),
        },
        curve=0.75, shading=0.20, bias=0.03, blur=0.70, noise=0.015, gain=(250, 500),
    ),
}  # fmt: skip
"""Scanner a is sharp and even; scanner b is blurred and shaded, with flatter contrast."""


def acquire_scans(scanner: Scanner, brain: Brain, *, rng: np.random.Generator) -> dict[str, NDArray[np.int16]]:
    """Scan a brain in all modalities; voxels outside the brain are 0, as after skull stripping.

    Args:
        scanner: the scanner.
        brain: the brain.
        rng: random generator of noise, bias and gain.

    Returns:
        Modality → [X, Y, Z] int16; inside the brain at least 1.

    Example:
        >>> import numpy as np
        >>> from seewhy.phantoms.scanners import BRAIN, SCANNERS, acquire_scans, draw_brain
        >>> brain = draw_brain(BRAIN, shape=(24, 24, 24), rng=np.random.default_rng(0))
        >>> scans = acquire_scans(SCANNERS["a"], brain, rng=np.random.default_rng(1))
        >>> list(scans), scans["t1"].shape
        (['t1', 't1ce', 't2', 'flair'], (24, 24, 24))
    """
    scans = {}
    shape = brain.inside.shape
    # The skull is stripped after scanning, so what lies outside does not darken the brain's rim.
    share = np.maximum(gaussian_filter(brain.inside.astype(np.float32), scanner.blur), 1e-3)
    coil = np.exp(scanner.shading * make_frame((shape[0], shape[1], shape[2])).y)
    for name in MODALITIES:
        t1 = brain.t1_enhanced if name == "t1ce" else brain.t1
        clean = scanner.sequences[name].signal(t1, brain.t2, brain.density)
        clean = clean / np.float32(np.percentile(clean[brain.inside], 99.5))
        curved = gaussian_filter(np.power(clean, np.float32(scanner.curve)), scanner.blur) / share
        field = np.exp(scanner.bias * draw_field(rng, (shape[0], shape[1], shape[2]), 14))
        real = curved * coil * field + scanner.noise * rng.standard_normal(shape, dtype=np.float32)
        imaginary = scanner.noise * rng.standard_normal(shape, dtype=np.float32)
        values = np.rint(rng.uniform(*scanner.gain) * np.hypot(real, imaginary))
        scans[name] = np.where(brain.inside, np.maximum(values, 1), 0).astype(np.int16)
    return scans


BRAIN = BrainRecipe()


def write_scanner_phantom(
    root: str | Path,
    *,
    subjects: Sequence[int] = (16, 16),
    shape: Sequence[int] = (56, 64, 40),
    spacing: PositiveFloat = 3.0,
    seed: NonNegativeInt = 0,
) -> Path:
    """Write `a/`, `b/`, `counterparts/` and `dataset.json`, or reuse those of an earlier call.

    Subjects of domain a were scanned by one scanner, those of b by the other, and none by both: `<domain>/<subject>/
    <subject>_<modality>.nii.gz` with t1, t1ce, t2, flair and the tumour's `seg`. `counterparts/<domain>/<subject>/`
    holds the same subject as scanned by the other domain's scanner, the ground truth of a translation. Contrast
    follows from relaxation times by the signal equations, so that it differs between the scanners tissue by tissue;
    contrast curve, shading, blur and noise differ, too. Brains and tumours of both domains have the same
    distribution. Volumes are skull-stripped and stored as LPS, as in BraTS.

    Args:
        root: the data set's folder.
        subjects: number of subjects of domain a and of domain b.
        shape: voxels towards left, posterior and superior.
        spacing: mm between voxels.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.scanners import write_scanner_phantom
        >>> root = write_scanner_phantom("scanners", subjects=(1, 1), shape=(24, 24, 24))
        >>> sorted(path.name for path in (root / "a" / "A001").iterdir())
        ['A001_flair.nii.gz', 'A001_seg.nii.gz', 'A001_t1.nii.gz', 'A001_t1ce.nii.gz', 'A001_t2.nii.gz']
    """
    if len(shape) != 3 or len(subjects) != 2 or spacing <= 0:
        raise ConfigError(
            f"phantom.shape={list(shape)} must be three numbers, phantom.subjects={list(subjects)} two numbers, "
            f"phantom.spacing={spacing} above 0"
        )
    check_minimums({"subjects": (min(subjects), 1), "shape": (min(shape), 24), "seed": (seed, 0)})
    settings = {
        "name": "scanners", "phantom": True, "version": VERSION, "subjects": [int(n) for n in subjects],
        "shape": [int(n) for n in shape], "spacing": float(spacing), "seed": seed,
    }  # fmt: skip

    files = {}
    for domain, count in zip(OTHER, subjects, strict=True):
        files[f"{domain}/*/*.nii.gz"] = 5 * count
        files[f"{COUNTERPARTS}/{domain}/*/*.nii.gz"] = 4 * count
    return write_or_reuse(root, settings, partial(_write_subjects, settings=settings), files=files, kind="volumes")


def _write_subjects(folder: Path, settings: dict[str, Any]) -> None:
    """Draw all subjects, scan each with both scanners, and write the scans."""
    first, _ = settings["subjects"]
    x, y, z = settings["shape"]
    for index in track_slowly(range(sum(settings["subjects"])), "writing scanner phantom"):
        domain, number = ("a", index) if index < first else ("b", index - first)
        # A brain does not depend on how many others are drawn.
        key = [settings["seed"], ord(domain), number]
        brain = draw_brain(BRAIN, shape=(x, y, z), rng=np.random.default_rng([*key, 0]))
        subject = f"{domain.upper()}{number + 1:03d}"
        for scanner in OTHER:
            is_source = scanner == domain
            base = folder / domain if is_source else folder / COUNTERPARTS / domain
            rng = np.random.default_rng([*key, ord(scanner)])
            look = SCANNERS[scanner]
            write_scan(base / subject, brain, look, rng=rng, spacing=settings["spacing"], labels=is_source)


def write_scan(
    folder: Path, brain: Brain, scanner: Scanner, *, rng: np.random.Generator, spacing: float, labels: bool
) -> None:
    """Write one scan of a subject, named like its folder, `<subject>_<modality>.nii.gz`; `labels`: also `seg`."""
    volumes: dict[str, Any] = dict(acquire_scans(scanner, brain, rng=rng))
    if labels:
        volumes["seg"] = brain.labels
    affine = _make_affine(brain.labels.shape, spacing)
    for name, values in volumes.items():
        # Drawn towards anterior, stored towards posterior.
        write_nifti(folder / f"{folder.name}_{name}.nii.gz", np.ascontiguousarray(values[:, ::-1]), affine=affine)


def _make_affine(shape: tuple[int, ...], spacing: float) -> np.ndarray:
    """Return the affine of orientation LPS in millimetres, with the origin in the middle of the volume."""
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    left, posterior, superior = ((length - 1) / 2 * spacing for length in shape)
    affine[:3, 3] = left, posterior, -superior
    return affine
