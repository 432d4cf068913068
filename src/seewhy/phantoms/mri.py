"""Drawing synthetic heads: two hippocampus-like regions, one of them ill in some, and much that says nothing.

HeadPhantom: synthetic heads as NIfTI volumes with a table, as MRI classification finds them on disk.
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
from seewhy.io.atomic import write_csv, write_json
from seewhy.io.nifti import write_nifti
from seewhy.phantoms.fields import FloatArray, Frame, frame_of, smooth_field
from seewhy.phantoms.write_cached import check_least, counted, write_once

__all__ = ["HEAD", "TABLE", "HeadRecipe", "SyntheticHead", "draw_head", "write_mri_phantom"]


@dataclass(frozen=True)
class HeadRecipe:
    """What the heads look like.

    Lengths are in units of half the volume; brightness in units where tissue is about 0.5 and the scanner's full
    scale is 1. Pairs are the ends of uniform draws.

    Attributes:
        centre: of the left region, towards left, anterior and superior; the right one mirrors it.
        radii: half axes of a region of usual size, in the same order.
        jitter: standard deviation of a region's place.
        size: relative size of each region, drawn for either side.
        atrophy: factor on the radii of an ill region across its length.
        contrast: brightness of an ill region above a sound one, before it is mottled.
        mottle: deviation of an ill region's texture, in units of its contrast; nothing else is mottled.
        mottle_range: ends at which 1 + texture, the factor on the contrast, is cut.
        spots: how many smooth bright spots lie elsewhere in the brain of everybody, ill or sound.
        spot_contrast: brightness of those; above all of an ill region, so that brightness alone points at them.
        spot_radius: of those.
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


@dataclass(frozen=True)
class SyntheticHead:
    """One synthetic head; array axes run to the patient's left, to anterior and to superior.

    Attributes:
        image: [X, Y, Z] int16, 0 to about 1500.
        region: [X, Y, Z] uint8, 1 where the ill region would lie were it sound; zero in sound heads.
    """

    image: NDArray[np.int16]
    region: NDArray[np.uint8]


def draw_head(
    recipe: HeadRecipe, *, shape: tuple[int, int, int], ill: str | None, seed: int, number: int
) -> SyntheticHead:
    """Draw one head; the same arguments give the same values.

    What is drawn besides the illness does not depend on it: a sound head and an ill one of the same seed and
    number differ in and around one region only.

    Args:
        recipe: what such heads look like.
        shape: voxels towards left, anterior and superior.
        ill: `left`, `right` or None for a sound head.
        seed: of the data set.
        number: of the head, counted from 0.
    """
    rng = np.random.default_rng([seed, number])
    frame = frame_of(shape)
    level = _head_level(rng, frame)
    volume = _tissue(rng, frame, level)
    sides = {side: _distance(rng, recipe, frame, sign) for side, sign in (("left", 1), ("right", -1))}
    near = np.minimum(sides["left"], sides["right"])
    brightness, lift = rng.uniform(0.50, 0.58), rng.uniform(*recipe.contrast)
    shrink = rng.uniform(*recipe.atrophy)
    mottle = np.clip(1 + recipe.mottle * smooth_field(rng, shape, 1.2), *recipe.mottle_range)
    volume = volume + _spots(rng, recipe, frame, level, near)
    for side, distance in sides.items():
        profile = _soft(distance)
        volume = volume + profile * (brightness - volume)
        if side == ill:
            small = _soft(distance / shrink)
            # What atrophy leaves behind is fluid.
            volume = volume + (profile - small) * (0.25 - volume) + small * lift * mottle
    volume = np.where(level > 1, np.float32(0), volume)
    region = sides[ill] < 1 if ill else np.zeros(shape, bool)
    return SyntheticHead(_acquire(rng, recipe, shape, volume), region.astype(np.uint8))


def _head_level(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """Below 1 inside the head, about 0.85 where the brain ends."""
    radii = rng.uniform((0.78, 0.84, 0.80), (0.86, 0.93, 0.90))
    shift = rng.normal(0, 0.02, 3)
    square = sum(
        ((axis - move) / radius) ** 2
        for axis, move, radius in zip((frame.x, frame.y, frame.z), shift, radii, strict=True)
    )
    return np.asarray(np.sqrt(square) + 0.015 * smooth_field(rng, frame.shape, 6), np.float32)


def _tissue(rng: np.random.Generator, frame: Frame, level: FloatArray) -> FloatArray:
    """Scalp, skull, cortex, white matter, and fluid in fissure and ventricles."""
    volume = 0.60 + 0.03 * smooth_field(rng, frame.shape, 4) + 0.02 * smooth_field(rng, frame.shape, 1)
    folds = level + 0.05 * smooth_field(rng, frame.shape, 2.5)
    volume = np.where(folds > 0.68, 0.48 + 0.03 * smooth_field(rng, frame.shape, 1), volume)
    apart = rng.uniform(0.10, 0.15)
    ventricle = ((np.abs(frame.x) - apart) / 0.07) ** 2 + ((frame.y - 0.02) / 0.34) ** 2
    ventricle = ventricle + ((frame.z - 0.14) / rng.uniform(0.12, 0.20)) ** 2 + 0.2 * smooth_field(rng, frame.shape, 3)
    fissure = (np.abs(frame.x) < 0.03) & (level > 0.62) & (frame.z > -0.2)
    volume = np.where((ventricle < 1) | fissure, np.float32(0.22), volume)
    volume = np.where(level > 0.84, np.float32(0.25), volume)
    volume = np.where(level > 0.89, np.float32(0.10), volume)
    return np.where(level > 0.94, np.float32(rng.uniform(0.7, 0.95)), volume).astype(np.float32)


def _distance(rng: np.random.Generator, recipe: HeadRecipe, frame: Frame, sign: int) -> FloatArray:
    """Below 1 inside the region of one side; no region reaches over the midline."""
    x, y, z = rng.normal(recipe.centre, recipe.jitter)
    a, b, c = np.multiply(recipe.radii, rng.uniform(*recipe.size))
    bend = 0.06 * (1 - ((frame.y - y) / b) ** 2)  # arched, as hippocampi are
    square = ((sign * frame.x - x) / a) ** 2 + ((frame.y - y) / b) ** 2 + ((frame.z - z - bend) / c) ** 2
    return np.asarray(np.sqrt(square) + 0.08 * smooth_field(rng, frame.shape, 3), np.float32)


def _soft(distance: FloatArray) -> FloatArray:
    """1 inside, 0 outside, with an edge of about a voxel."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - 1) / 0.08, -30, 30))), np.float32)


def _spots(
    rng: np.random.Generator, recipe: HeadRecipe, frame: Frame, level: FloatArray, near: FloatArray
) -> FloatArray:
    """Bright spots anywhere in the brain but near the two regions, the same in ill and sound heads."""
    volume = np.zeros(frame.shape, np.float32)
    allowed = np.argwhere((level < 0.72) & (near > 2.2))
    for _ in range(rng.integers(recipe.spots[0], recipe.spots[1] + 1)):
        i, j, k = allowed[rng.integers(len(allowed))]
        radius = rng.uniform(*recipe.spot_radius)
        square = (frame.x - frame.x[i]) ** 2 + (frame.y - frame.y[:, j]) ** 2 + (frame.z - frame.z[..., k]) ** 2
        distance = np.sqrt(square) / radius + 0.08 * smooth_field(rng, frame.shape, 3)
        profile = _soft(distance) * (near > 1.5)
        volume = np.maximum(volume, profile * np.float32(rng.uniform(*recipe.spot_contrast)))
    return volume


def _acquire(
    rng: np.random.Generator, recipe: HeadRecipe, shape: tuple[int, int, int], volume: FloatArray
) -> NDArray[np.int16]:
    """The scanner's part: partial volume, coil sensitivity, Rician noise and gain."""
    signal = gaussian_filter(volume, 0.5) * np.exp(recipe.bias * smooth_field(rng, shape, 14))
    real = signal + recipe.noise * rng.standard_normal(shape, dtype=np.float32)
    imaginary = recipe.noise * rng.standard_normal(shape, dtype=np.float32)
    return np.rint(1000 * rng.uniform(*recipe.gain) * np.hypot(real, imaginary)).astype(np.int16)


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
