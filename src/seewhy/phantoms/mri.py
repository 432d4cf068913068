"""Draw and write the MRI phantom: heads as NIfTI volumes with a table, for classification.

A head has two hippocampus-like regions, one of which is abnormal in half of the heads, and distracting bright spots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_csv
from seewhy.io.nifti import write_nifti
from seewhy.option_types import NonNegativeInt, PositiveFloat, PositiveInt
from seewhy.phantoms.drawing import FloatArray, Frame, draw_field, make_frame, soft_step
from seewhy.phantoms.writing import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = [
    "HEAD",
    "TABLE",
    "HeadRecipe",
    "SyntheticHead",
    "draw_head",
    "list_heads",
    "make_affine",
    "write_mri_phantom",
]

TABLE = "cases.csv"
LABEL = "HC_vs_LTLE_vs_RTLE_string"
"""Name of the label column, as in the reference; its values are `HC`, `left` and `right`."""
EDGE = 0.08
"""Width of soft edges, about a voxel."""
VERSION = 2
"""Raised whenever the same settings draw other heads, so that older folders are not reused."""


@dataclass(frozen=True)
class HeadRecipe:
    """Appearance of the heads.

    Lengths are in units of half the volume; brightness in units where tissue is about 0.5 and the scanner's full
    scale is 1. Pairs are the limits of uniform draws.

    Attributes:
        centre: centre of the left region, towards left, anterior and superior; the right region mirrors it.
        radii: half axes of a region of usual size, in the same order.
        jitter: standard deviation of a region's position.
        size: relative size of each region, drawn for each side.
        atrophy: factor on the radii of an abnormal region.
        contrast: brightness of an abnormal region above a healthy one, before it is mottled.
        mottle: deviation of an abnormal region's texture, in units of its contrast; nothing else is mottled.
        mottle_range: limits of 1 + texture, the factor on the contrast.
        spots: number of smooth bright spots elsewhere in the brain of every head.
        spot_contrast: brightness of the spots, above that of abnormal regions, so that brightness is misleading.
        spot_radius: radius of the spots.
        noise: standard deviation of the Rician noise.
        bias: standard deviation of the logarithm of the bias field.
        gain: brightness of the whole volume.
    """

    centre: tuple[float, float, float] = (0.36, -0.05, -0.28)
    radii: tuple[float, float, float] = (0.24, 0.40, 0.23)
    jitter: float = 0.015
    size: tuple[float, float] = (0.9, 1.1)
    atrophy: tuple[float, float] = (0.90, 1.0)
    contrast: tuple[float, float] = (0.28, 0.40)
    mottle: float = 1.3
    mottle_range: tuple[float, float] = (-1.2, 1.2)
    spots: tuple[int, int] = (4, 7)
    spot_contrast: tuple[float, float] = (0.45, 0.75)
    spot_radius: tuple[float, float] = (0.12, 0.22)
    noise: float = 0.035
    bias: float = 0.10
    gain: tuple[float, float] = (0.75, 1.0)


HEAD = HeadRecipe()


@dataclass(frozen=True)
class SyntheticHead:
    """One synthetic head; array axes run to the patient's left, to anterior and to superior.

    Attributes:
        image: [X, Y, Z] int16, 0 to about 1500.
        region: [X, Y, Z] uint8, 1 in the abnormal region before atrophy; all 0 in healthy heads.
    """

    image: NDArray[np.int16]
    region: NDArray[np.uint8]


def draw_head(
    recipe: HeadRecipe, *, shape: tuple[int, int, int], ill: str | None, seed: int, number: int
) -> SyntheticHead:
    """Draw one head; the same arguments give the same values.

    Everything else is drawn independently of the abnormality: a healthy and an abnormal head of the same seed and
    number differ in and around one region only.

    Args:
        recipe: appearance of the heads.
        shape: voxels towards left, anterior and superior.
        ill: side of the abnormal region, `left` or `right`; None for a healthy head.
        seed: seed of the data set.
        number: the head's number, counted from 0.

    Example:
        >>> from seewhy.phantoms.mri import HEAD, draw_head
        >>> head = draw_head(HEAD, shape=(24, 24, 24), ill="left", seed=0, number=0)
        >>> head.image.shape, bool(head.region[12:].any()), bool(head.region[:10].any())
        ((24, 24, 24), True, False)
    """
    rng = np.random.default_rng([seed, number])
    frame = make_frame(shape)
    level = _draw_head_level(rng, frame)
    volume = _draw_tissue(rng, frame, level)
    sides = {side: _draw_distance(rng, recipe, frame, sign) for side, sign in (("left", 1), ("right", -1))}
    near = np.minimum(sides["left"], sides["right"])
    brightness, lift = rng.uniform(0.50, 0.58), rng.uniform(*recipe.contrast)
    shrink = rng.uniform(*recipe.atrophy)
    mottle = np.clip(1 + recipe.mottle * draw_field(rng, shape, 1.2), *recipe.mottle_range)
    volume = volume + _draw_spots(rng, recipe, frame, level, near)
    for side, distance in sides.items():
        profile = soft_step(distance, EDGE)
        volume = volume + profile * (brightness - volume)
        if side == ill:
            small = soft_step(distance / shrink, EDGE)
            # Fluid fills the space left by atrophy.
            volume = volume + (profile - small) * (0.25 - volume) + small * lift * mottle
    volume = np.where(level > 1, np.float32(0), volume)
    region = sides[ill] < 1 if ill else np.zeros(shape, bool)
    return SyntheticHead(_acquire(rng, recipe, shape, volume), region.astype(np.uint8))


def _draw_head_level(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """Draw the level of the head: below 1 inside, about 0.85 at the surface of the brain."""
    radii = rng.uniform((0.78, 0.84, 0.80), (0.86, 0.93, 0.90))
    shift = rng.normal(0, 0.02, 3)
    square = sum(
        ((axis - move) / radius) ** 2
        for axis, move, radius in zip((frame.x, frame.y, frame.z), shift, radii, strict=True)
    )
    return np.asarray(np.sqrt(square) + 0.015 * draw_field(rng, frame.shape, 6), np.float32)


def _draw_tissue(rng: np.random.Generator, frame: Frame, level: FloatArray) -> FloatArray:
    """Draw scalp, skull, cortex, white matter, and fluid in fissure and ventricles."""
    volume = 0.60 + 0.03 * draw_field(rng, frame.shape, 4) + 0.02 * draw_field(rng, frame.shape, 1)
    folds = level + 0.05 * draw_field(rng, frame.shape, 2.5)
    volume = np.where(folds > 0.68, 0.48 + 0.03 * draw_field(rng, frame.shape, 1), volume)
    apart = rng.uniform(0.10, 0.15)
    ventricle = ((np.abs(frame.x) - apart) / 0.07) ** 2 + ((frame.y - 0.02) / 0.34) ** 2
    ventricle = ventricle + ((frame.z - 0.14) / rng.uniform(0.12, 0.20)) ** 2 + 0.2 * draw_field(rng, frame.shape, 3)
    fissure = (np.abs(frame.x) < 0.03) & (level > 0.62) & (frame.z > -0.2)
    volume = np.where((ventricle < 1) | fissure, np.float32(0.22), volume)
    volume = np.where(level > 0.84, np.float32(0.25), volume)
    volume = np.where(level > 0.89, np.float32(0.10), volume)
    return np.where(level > 0.94, np.float32(rng.uniform(0.7, 0.95)), volume).astype(np.float32)


def _draw_distance(rng: np.random.Generator, recipe: HeadRecipe, frame: Frame, sign: int) -> FloatArray:
    """Draw the level of the region on one side, below 1 inside; no region crosses the midline."""
    x, y, z = rng.normal(recipe.centre, recipe.jitter)
    a, b, c = np.multiply(recipe.radii, rng.uniform(*recipe.size))
    bend = 0.06 * (1 - ((frame.y - y) / b) ** 2)  # arched, as hippocampi are
    square = ((sign * frame.x - x) / a) ** 2 + ((frame.y - y) / b) ** 2 + ((frame.z - z - bend) / c) ** 2
    return np.asarray(np.sqrt(square) + 0.08 * draw_field(rng, frame.shape, 3), np.float32)


def _draw_spots(
    rng: np.random.Generator, recipe: HeadRecipe, frame: Frame, level: FloatArray, near: FloatArray
) -> FloatArray:
    """Draw bright spots in the brain away from the two regions, the same in healthy and abnormal heads."""
    volume = np.zeros(frame.shape, np.float32)
    allowed = np.argwhere((level < 0.72) & (near > 2.2))
    for _ in range(rng.integers(recipe.spots[0], recipe.spots[1] + 1)):
        i, j, k = allowed[rng.integers(len(allowed))]
        radius = rng.uniform(*recipe.spot_radius)
        square = (frame.x - frame.x[i]) ** 2 + (frame.y - frame.y[:, j]) ** 2 + (frame.z - frame.z[..., k]) ** 2
        distance = np.sqrt(square) / radius + 0.08 * draw_field(rng, frame.shape, 3)
        profile = soft_step(distance, EDGE) * (near > 1.5)
        volume = np.maximum(volume, profile * np.float32(rng.uniform(*recipe.spot_contrast)))
    return volume


def _acquire(
    rng: np.random.Generator, recipe: HeadRecipe, shape: tuple[int, int, int], volume: FloatArray
) -> NDArray[np.int16]:
    """Simulate the scanner: partial volume, coil sensitivity, Rician noise and gain."""
    signal = gaussian_filter(volume, 0.5) * np.exp(recipe.bias * draw_field(rng, shape, 14))
    real = signal + recipe.noise * rng.standard_normal(shape, dtype=np.float32)
    imaginary = recipe.noise * rng.standard_normal(shape, dtype=np.float32)
    return np.rint(1000 * rng.uniform(*recipe.gain) * np.hypot(real, imaginary)).astype(np.int16)


def write_mri_phantom(
    root: str | Path,
    *,
    cases: PositiveInt = 80,
    shape: Sequence[int] = (48, 56, 48),
    spacing: PositiveFloat = 3.0,
    seed: NonNegativeInt = 0,
) -> Path:
    """Write `volumes/`, `masks/`, `cases.csv` and `dataset.json`, or reuse those of an earlier call.

    Every head has two hippocampus-like regions, and bright spots elsewhere. Half of the heads are healthy (`HC`);
    in a quarter each the `left` or the `right` region is slightly smaller, brighter and mottled, and marked in the
    mask. The spots are even brighter but smooth, so that only texture and position distinguish them from an abnormal
    region. Size, position, contrast, bias and noise have the same distribution in all heads. Volumes are stored in
    the orientation LAS, like the templates of SPM and CAT12.

    Args:
        root: the data set's folder.
        cases: number of heads, one per patient.
        shape: voxels towards left, anterior and superior.
        spacing: mm between voxels.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.mri import write_mri_phantom
        >>> root = write_mri_phantom("mri", cases=2, shape=(24, 24, 24))
        >>> print((root / "cases.csv").read_text().splitlines()[1])
        volumes/mwp1H001_T1.nii.gz,HC,H001,masks/H001_region.nii.gz
    """
    if len(shape) != 3 or spacing <= 0:
        raise ConfigError(f"phantom.shape={list(shape)} must be three numbers, phantom.spacing={spacing} above 0")
    check_minimums({"cases": (cases, 1), "shape": (min(shape), 24), "seed": (seed, 0)})
    settings = {
        "name": "mri", "phantom": True, "version": VERSION, "cases": cases, "shape": [int(n) for n in shape],
        "spacing": float(spacing), "seed": seed,
    }  # fmt: skip

    def write(folder: Path) -> None:
        rows = _write_heads(folder, settings)
        write_csv(folder / TABLE, rows, columns=("file", LABEL, "patient", "mask"))

    return write_or_reuse(
        root, settings, write, files={"volumes/*.nii.gz": cases, "masks/*.nii.gz": cases}, kind="volumes"
    )


def _write_heads(folder: Path, settings: dict[str, Any]) -> list[dict[str, str]]:
    """Draw and write all heads."""
    affine = make_affine(settings["shape"], settings["spacing"])
    rows = []
    for number, (patient, label) in enumerate(track_slowly(list_heads(settings["cases"]), "writing mri phantom")):
        head = draw_head(
            HEAD, shape=tuple(settings["shape"]), ill=None if label == "HC" else label, seed=settings["seed"],
            number=number,
        )  # fmt: skip
        row = {
            "file": f"volumes/mwp1{patient}_T1.nii.gz", LABEL: label, "patient": patient,
            "mask": f"masks/{patient}_region.nii.gz",
        }  # fmt: skip
        write_nifti(folder / row["file"], head.image, affine=affine)
        write_nifti(folder / row["mask"], head.region, affine=affine)
        rows.append(row)
    return rows


def list_heads(cases: int) -> list[tuple[str, str]]:
    """List patient and label (`HC`, `left` or `right`) of so many heads."""
    return [(f"H{number + 1:03d}", ("HC", "left", "HC", "right")[number % 4]) for number in range(cases)]


def make_affine(shape: Sequence[int], spacing: float) -> np.ndarray:
    """Return the affine of orientation LAS in mm, with the origin off the centre as in a scan of a real head.

    Args:
        shape: voxels towards left, anterior and superior.
        spacing: mm between voxels.
    """
    affine = np.diag([-spacing, spacing, spacing, 1.0])
    right, anterior, superior = ((length - 1) / 2 * spacing for length in shape)
    affine[:3, 3] = right + 0.5, -anterior - 18.0, -superior + 12.0
    return affine
