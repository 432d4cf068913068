"""Draw and write slices of synthetic brains with a tumour, named like BraTS.

A patient is a head with bright structures that are normal, and often a lesion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.phantoms.drawing import BodyFrame, acquire_slices, draw_stack_field, make_stack_frame
from seewhy.phantoms.writing import write_slice_phantom

__all__ = ["TUMOUR", "Recipe", "draw_patient", "write_tumour_phantom"]

FloatArray = NDArray[np.float32]
VERSION = 1
"""Raised whenever the same settings draw other images, so that older folders are not reused."""


@dataclass(frozen=True)
class Recipe:
    """Appearance of a kind of patient.

    Lengths are in units of half the image; brightness in units where tissue is about 0.5 and the scanner's
    full scale is 1. Pairs are the limits of uniform draws.

    Attributes:
        radius: in-plane radius of the lesion.
        depth: half length of the lesion along the slices, in units of half the patient.
        contrast: brightness of the lesion above the tissue it grows in.
        softness: width of the lesion's edge, as a share of its radius.
        mottle: relative strength of the lesion's fine texture.
        organ: brightness of the symmetric, sharp-edged organ of every patient.
        vessel: brightness of the vessels of every patient.
        rim: brightness of the ring around the body.
        noise: standard deviation of the Rician noise.
        bias: standard deviation of the logarithm of the bias field.
        min_share: smallest share of a slice's pixels that a lesion may cover; smaller ones are removed.
        first_healthy: number of the first patient without a lesion.
        healthy_every: distance between the numbers of patients without a lesion.
    """

    radius: tuple[float, float] = (0.16, 0.30)
    depth: tuple[float, float] = (0.45, 0.90)
    contrast: tuple[float, float] = (0.26, 0.42)
    softness: tuple[float, float] = (0.18, 0.34)
    mottle: float = 0.5
    organ: tuple[float, float] = (0.72, 0.90)
    vessel: tuple[float, float] = (0.70, 0.95)
    rim: tuple[float, float] = (0.75, 0.95)
    noise: float = 0.035
    bias: float = 0.12
    min_share: float = 0.006
    first_healthy: int = 3
    healthy_every: int = 7

    def is_healthy(self, number: int) -> bool:
        """Return whether the patient of this number, counted from 0, has no lesion."""
        return number % self.healthy_every == self.first_healthy


def draw_patient(
    recipe: Recipe, *, slices: int, size: int, seed: int, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one patient; the same arguments give the same bytes.

    Args:
        recipe: appearance of the patients.
        slices: number of slices.
        size: pixels per side.
        seed: seed of the data set.
        number: the patient's number, counted from 0; a patient does not depend on how many others are drawn.

    Returns:
        Volume [slices, size, size] in 0..255 and lesion mask of the same shape in {0, 1}.

    Example:
        >>> from seewhy.phantoms.slices import TUMOUR, draw_patient
        >>> volume, mask = draw_patient(TUMOUR, slices=4, size=32, seed=0, number=0)
        >>> volume.shape, str(volume.dtype), mask.max()
        ((4, 32, 32), 'uint8', np.uint8(1))
    """
    rng = np.random.default_rng([seed, number])
    frame = make_stack_frame(slices, size)
    level, grow = _draw_body_level(rng, frame)
    volume = _draw_tissue(rng, frame)
    organ = _draw_organ(rng, frame, grow)
    volume = np.where(organ, np.float32(rng.uniform(*recipe.organ)), volume)
    profile, mask = _draw_lesion(rng, recipe, frame, level, organ, healthy=recipe.is_healthy(number))
    mottle = 1 + recipe.mottle * draw_stack_field(rng, frame, (0.5, 1.1, 1.1))
    volume = volume + np.float32(rng.uniform(*recipe.contrast)) * profile * mottle
    vessels = _draw_vessels(rng, frame) & (profile < 0.05)
    volume = np.where(vessels, np.float32(rng.uniform(*recipe.vessel)), volume)
    volume = np.where(level > 0.90, np.float32(rng.uniform(*recipe.rim)), volume)
    volume = np.where(level > 1.0, np.float32(0), volume)
    image = acquire_slices(rng, frame, volume, noise=recipe.noise, bias=recipe.bias)
    return image, mask.astype(np.uint8)


def _draw_body_level(rng: np.random.Generator, frame: BodyFrame) -> tuple[FloatArray, FloatArray]:
    """Return the level of the body (below 1 inside) and its size per slice (it tapers towards both ends)."""
    grow = np.sqrt(1 - (0.7 * frame.z) ** 2)
    height, width = rng.uniform(0.78, 0.92), rng.uniform(0.64, 0.78)
    tilt = rng.uniform(-0.15, 0.15)
    y = frame.y - rng.uniform(-0.06, 0.06)
    x = frame.x - rng.uniform(-0.06, 0.06)
    along = np.cos(tilt) * y + np.sin(tilt) * x
    across = np.cos(tilt) * x - np.sin(tilt) * y
    level = np.sqrt((along / height) ** 2 + (across / width) ** 2) / grow
    level = level + 0.02 * draw_stack_field(rng, frame, (2.0, 14.0, 14.0))
    return level.astype(np.float32), grow.astype(np.float32)


def _draw_tissue(rng: np.random.Generator, frame: BodyFrame) -> FloatArray:
    """Draw two tissues in smooth patches with a fine texture each, and dark fluid along the midline."""
    patches = np.clip(2.0 * draw_stack_field(rng, frame, (1.5, 7.0, 7.0)), -1, 1)
    volume = 0.48 + 0.05 * patches + 0.03 * draw_stack_field(rng, frame, (0.5, 1.8, 1.8))
    fluid = np.abs(frame.x + 0.03 * draw_stack_field(rng, frame, (1.5, 10.0, 10.0))) < 0.025
    fluid = fluid & (np.abs(frame.y) < 0.6) & (draw_stack_field(rng, frame, (1.5, 9.0, 9.0)) > -0.3)
    return np.where(fluid, np.float32(0.22), volume).astype(np.float32)


def _draw_organ(rng: np.random.Generator, frame: BodyFrame, grow: FloatArray) -> NDArray[np.bool_]:
    """Draw a pair of ellipses left and right of the midline, with a sharp edge, in every slice of every patient."""
    y0, x0 = rng.uniform(-0.35, 0.35), rng.uniform(0.20, 0.34)
    ry, rx = rng.uniform(0.13, 0.20), rng.uniform(0.09, 0.14)
    size = grow * rng.uniform(0.9, 1.1)
    y = (frame.y - y0 * grow) / (ry * size)
    x = (np.abs(frame.x) - x0 * grow) / (rx * size)
    return np.asarray(y**2 + x**2 + 0.1 * draw_stack_field(rng, frame, (1.5, 6.0, 6.0)) < 1, dtype=bool)


def _draw_vessels(rng: np.random.Generator, frame: BodyFrame) -> NDArray[np.bool_]:
    """Draw thin winding lines: where a smooth field changes its sign, broken up by a second field."""
    field = draw_stack_field(rng, frame, (1.0, 8.0, 8.0))
    slope = np.hypot(*np.gradient(field, axis=(1, 2)))
    distance = np.abs(field) / (slope + 1e-6)
    wide = rng.uniform(0.8, 1.3) * frame.shape[1] / 128
    return np.asarray((distance < wide) & (draw_stack_field(rng, frame, (1.5, 9.0, 9.0)) > 0.1), dtype=bool)


def _draw_lesion(
    rng: np.random.Generator,
    recipe: Recipe,
    frame: BodyFrame,
    level: FloatArray,
    organ: NDArray[np.bool_],
    *,
    healthy: bool,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Draw the profile in [0, 1] of a perturbed blob with a soft edge, and the mask where it exceeds one half."""
    radius, depth = rng.uniform(*recipe.radius), rng.uniform(*recipe.depth)
    angle, where = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0.04, 1.0))
    reach = max(0.05, 0.58 - 0.5 * radius) * where
    y0, x0, z0 = 1.2 * reach * np.sin(angle), reach * np.cos(angle), rng.uniform(-0.85, 0.85)
    squeeze = rng.uniform(0.8, 1.25)
    softness = rng.uniform(*recipe.softness)
    rough = draw_stack_field(rng, frame, (1.5, 5.0, 5.0))
    if healthy:
        return np.zeros(frame.shape, np.float32), np.zeros(frame.shape, bool)
    flat = np.sqrt(((frame.y - y0) * squeeze) ** 2 + ((frame.x - x0) / squeeze) ** 2) / radius
    shape = np.sqrt(flat**2 + ((frame.z - z0) / depth) ** 2) + 0.12 * rough
    profile = 1 / (1 + np.exp(np.clip((shape - 1) / (softness / 3), -30, 30)))
    profile = profile * (level < 0.86) * ~organ
    mask = profile > 0.5
    enough = mask.mean((1, 2), keepdims=True) >= recipe.min_share
    return (profile * enough).astype(np.float32), mask & enough


TUMOUR = Recipe()


def write_tumour_phantom(
    root: str | Path,
    *,
    patients: PositiveInt = 40,
    slices: PositiveInt = 16,
    size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    modality: str = "flair",
) -> Path:
    """Write slices `BRATS_<id>_<slice>_<label>.npy` of synthetic brains, or reuse those of an earlier call.

    Every slice has a bright rim, vessels, a pair of bright sharp-edged organs, a bias field and Rician noise. Slices
    of label 1 also have a mottled blob with a soft edge, about as bright as the organs. Thresholds and the position
    in the image are therefore poor predictors; the texture and shape of the structures are good ones. One patient in
    seven is healthy.

    Args:
        root: the data set's folder.
        patients: number of patients.
        slices: slices per patient; body and lesion change along them as in a volume.
        size: pixels per side, 32 or more.
        seed: the same seed gives the same bytes.
        modality: name in the manifest.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.slices import write_tumour_phantom
        >>> root = write_tumour_phantom("tumour", patients=2, slices=3, size=32)
        >>> sorted(path.name for path in root.iterdir())
        ['dataset.json', 'imageSlice', 'manifest.csv', 'maskSlice']
        >>> len(list(root.glob("imageSlice/BRATS_*.npy")))
        6
    """
    settings = {
        "name": "tumour", "phantom": True, "version": VERSION, "modality": modality, "patients": patients,
        "slices": slices, "size": size, "seed": seed,
    }  # fmt: skip
    return write_slice_phantom(
        root,
        lambda number: draw_patient(TUMOUR, slices=slices, size=size, seed=seed, number=number),
        settings=settings,
        file_name=_name_file,
        field_of_view=240,
        thickness=5.0,
    )


def _name_file(number: int, index: int, label: int) -> tuple[str, str]:
    patient = f"{number + 1:03d}"
    return f"BRATS_{patient}_{index}_{label}.npy", patient
