"""Draw and write slices of synthetic chests with a left atrium, named like LASC.

The blood in the atrium, the ventricle and the aorta has one brightness, so brightness alone cannot find the atrium.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.phantoms.drawing import BodyFrame, acquire_slices, draw_stack_field, make_stack_frame
from seewhy.phantoms.writing import write_slice_phantom

__all__ = ["CHEST", "ChestRecipe", "draw_chest", "write_atrium_phantom"]

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
VERSION = 2
"""Raised whenever the same settings draw other images, so that older folders are not reused."""


@dataclass(frozen=True)
class ChestRecipe:
    """Appearance of a chest.

    Lengths are in units of half the image; brightness in units where tissue is about 0.5 and the scanner's full scale
    is 1. Pairs are the limits of uniform draws.

    Attributes:
        blood: brightness of the blood in the atrium, the ventricle and the aorta.
        flow: relative strength of the blood's smooth variation.
        depth: half length of the atrium along the slices, in units of half the stack.
        noise: standard deviation of the Rician noise.
        bias: standard deviation of the logarithm of the bias field.
        min_share: smallest share of a slice's pixels that an atrium may cover; smaller ones are removed.
    """

    blood: tuple[float, float] = (0.72, 0.88)
    flow: float = 0.04
    depth: tuple[float, float] = (0.45, 0.72)
    noise: float = 0.045
    bias: float = 0.12
    min_share: float = 0.006


CHEST = ChestRecipe()


def draw_chest(
    recipe: ChestRecipe, *, slices: int, size: int, seed: int, number: int
) -> tuple[NDArray[np.uint8], dict[str, BoolArray]]:
    """Draw one patient; the same arguments give the same bytes.

    Rows run from front to back, columns from the patient's right to the left, slices from the neck to the feet.

    Args:
        recipe: appearance of the patients.
        slices: number of slices.
        size: pixels per side.
        seed: seed of the data set.
        number: the patient's number, counted from 0; a patient does not depend on how many others are drawn.

    Returns:
        Volume [slices, size, size] in 0..255, and the masks of `body`, `lungs`, `spine`, `aorta`, `ventricle` and
        `atrium`, of the same shape. The last three do not overlap.

    Example:
        >>> from seewhy.phantoms.chest import CHEST, draw_chest
        >>> volume, parts = draw_chest(CHEST, slices=5, size=32, seed=0, number=0)
        >>> volume.shape, parts["atrium"].any((1, 2)).tolist()
        ((5, 32, 32), [False, False, True, True, False])
    """
    rng = np.random.default_rng([seed, number])
    frame = make_stack_frame(slices, size)
    level = _draw_thorax(rng, frame)
    volume = 0.42 + 0.04 * np.clip(2 * draw_stack_field(rng, frame, (1.5, 6.0, 6.0)), -1, 1)
    volume = volume + 0.025 * draw_stack_field(rng, frame, (0.5, 1.5, 1.5))
    lungs = _draw_lungs(rng, frame) & (level < 0.86)
    vessels = (draw_stack_field(rng, frame, (1.0, 2.0, 2.0)) > 1.8) * np.float32(0.22)
    volume = np.where(lungs, 0.07 + vessels, volume)
    middle = rng.uniform(-0.05, 0.05)
    spine, canal = _draw_spine(rng, frame, middle)
    volume = np.where(spine, np.float32(rng.uniform(0.50, 0.62)), np.where(canal, np.float32(0.25), volume))
    heart = _draw_heart(rng, recipe, frame, middle)
    volume = np.where(heart["sac"], np.float32(0.40), volume)
    volume = np.where(heart["wall"], np.float32(rng.uniform(0.22, 0.32)), volume)
    blood = rng.uniform(*recipe.blood) * (1 + recipe.flow * draw_stack_field(rng, frame, (1.0, 3.0, 3.0)))
    volume = np.where(heart["atrium"] | heart["ventricle"] | heart["aorta"], blood, volume)
    volume = np.where(level > 0.93, np.float32(rng.uniform(0.55, 0.80)), volume)  # fat under the skin
    body = level <= 1.0
    volume = np.where(body, volume, 0).astype(np.float32)
    image = acquire_slices(rng, frame, volume, noise=recipe.noise, bias=recipe.bias)
    parts = {name: heart[name] for name in ("aorta", "ventricle", "atrium")}
    return image, {"body": body, "lungs": lungs & ~heart["sac"], "spine": spine, **parts}


def _draw_thorax(rng: np.random.Generator, frame: BodyFrame) -> FloatArray:
    """Draw the level of the chest, below 1 inside; nearly the same in all slices, so that area predicts little."""
    height, width = rng.uniform(0.62, 0.72), rng.uniform(0.84, 0.93)
    y = (frame.y - rng.uniform(-0.04, 0.04)) / height
    x = (frame.x - rng.uniform(-0.03, 0.03)) / width
    rounded = (np.abs(y) ** 2.4 + np.abs(x) ** 2.4) ** (1 / 2.4)
    return np.asarray(rounded + 0.015 * draw_stack_field(rng, frame, (2.0, 14.0, 14.0)), np.float32)


def _draw_lungs(rng: np.random.Generator, frame: BodyFrame) -> BoolArray:
    """Draw both lungs."""
    rough = 0.08 * draw_stack_field(rng, frame, (2.0, 8.0, 8.0))
    lungs = np.zeros(frame.shape, bool)
    for side in (-1, 1):
        x0, y0 = side * rng.uniform(0.46, 0.52), rng.uniform(-0.04, 0.08)
        rx, ry = rng.uniform(0.27, 0.32), rng.uniform(0.42, 0.50)
        lungs |= np.hypot((frame.y - y0) / ry, (frame.x - x0) / rx) + rough < 1
    return lungs


def _draw_spine(rng: np.random.Generator, frame: BodyFrame, middle: float) -> tuple[BoolArray, BoolArray]:
    """Draw a vertebra and the canal behind it."""
    y0, radius = rng.uniform(0.38, 0.44), rng.uniform(0.10, 0.13)
    rough = 0.06 * draw_stack_field(rng, frame, (0.7, 5.0, 5.0))
    vertebra = np.hypot(frame.y - y0, (frame.x - middle) / 1.15) / radius + rough < 1
    canal = np.hypot(frame.y - y0 - radius - 0.04, frame.x - middle) < 0.045
    return np.asarray(vertebra), np.asarray(np.broadcast_to(canal, frame.shape))


def _draw_heart(rng: np.random.Generator, recipe: ChestRecipe, frame: BodyFrame, middle: float) -> dict[str, BoolArray]:
    """Draw `aorta`, `ventricle` and `atrium`, the muscle around it (`wall`) and the place without lung (`sac`).

    The slices that each part spans are drawn separately, so that no other part tells where the atrium is.
    """
    rough = 0.08 * draw_stack_field(rng, frame, (1.5, 6.0, 6.0))
    # The descending aorta runs through all slices; the ascending one ends at the root.
    radius = rng.uniform(0.075, 0.10)
    winding, y0 = middle + rng.uniform(0.15, 0.20) + 0.03 * rng.uniform(-1, 1) * frame.z, rng.uniform(0.24, 0.30)
    aorta = np.hypot(frame.y - y0, frame.x - winding) / radius + rough < 1
    radius, root = rng.uniform(0.09, 0.12), rng.uniform(-0.5, 0.3)
    x0, y0 = middle + rng.uniform(-0.12, -0.04), rng.uniform(-0.26, -0.18)
    aorta |= (np.hypot(frame.y - y0, frame.x - x0) / radius + rough < 1) & (frame.z < root)
    # The ventricle reaches below the stack and narrows towards its tip.
    base, turn = rng.uniform(-0.6, 0.1), rng.uniform(0.3, 0.8)
    x0, y0 = middle + rng.uniform(0.26, 0.34), rng.uniform(-0.14, -0.04)
    along, across = _rotate(frame.y - y0, frame.x - x0, turn)
    narrow = np.sqrt(np.clip(1 - (0.75 * (frame.z - base) / (1 - base)) ** 2, 0.05, 1))
    shape = np.hypot(along / rng.uniform(0.17, 0.22), across / rng.uniform(0.13, 0.16)) / narrow + rough
    below = frame.z >= base
    # Papillary muscles: dark strands inside the ventricle, which the smooth atrium does not have.
    strands = draw_stack_field(rng, frame, (1.0, 2.2, 2.2)) > rng.uniform(0.9, 1.3)
    ventricle = (shape < 1) & below & ~aorta & ~(strands & (shape < 0.9))
    wall = (shape < 1.45) & below & ~ventricle & ~aorta
    # The atrium lies in front of the spine, between the aorta and the ventricle, without a muscle that could be seen.
    depth, z0 = rng.uniform(*recipe.depth), rng.uniform(-0.5, 0.5)
    x0, y0 = middle + rng.uniform(-0.06, 0.04), rng.uniform(0.06, 0.13)
    turn = rng.uniform(-0.25, 0.25)
    along, across = _rotate(frame.y - y0, frame.x - x0, turn)
    flat = np.hypot(along / rng.uniform(0.13, 0.17), across / rng.uniform(0.20, 0.26))
    inside = np.hypot(flat, (frame.z - z0) / depth) + rough < 1
    atrium = inside & (shape >= 1.45) & (np.hypot(frame.y - 0.41, frame.x - middle) > 0.15) & ~aorta
    atrium &= atrium.mean((1, 2), keepdims=True) >= recipe.min_share
    sac = np.hypot((frame.y - 0.0) / 0.38, (frame.x - middle - 0.10) / 0.34) + rough < 1
    sac |= aorta | ventricle | wall | atrium
    return {"aorta": aorta, "ventricle": ventricle, "atrium": atrium, "wall": wall, "sac": sac}


def _rotate(y: FloatArray, x: FloatArray, angle: float) -> tuple[FloatArray, FloatArray]:
    """Coordinates along the axes of a shape that is turned by an angle in radians."""
    return np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y


def write_atrium_phantom(
    root: str | Path,
    *,
    patients: PositiveInt = 40,
    slices: PositiveInt = 16,
    size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    modality: str = "lge",
) -> Path:
    """Write slices `atrium<id>_<slice>_<label>.npy` of synthetic chests, or reuse those of an earlier call.

    Every chest has lungs, a spine, an aorta in all slices, a ventricle with a thick wall and strands of muscle, and an
    atrium, which about half of the slices cut. The blood has one brightness everywhere, and the chest nearly the same
    area in all slices: the atrium has to be found by its shape, its place, its thin wall and its smoothness.

    Args:
        root: the data set's folder.
        patients: number of patients.
        slices: slices per patient.
        size: pixels per side, 32 or more.
        seed: the same seed gives the same bytes.
        modality: name in the manifest.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.chest import write_atrium_phantom
        >>> root = write_atrium_phantom("atrium", patients=1, slices=3, size=32)
        >>> sorted(path.name for path in root.glob("maskSlice/*.npy"))
        ['atrium001_000_0.npy', 'atrium001_001_1.npy', 'atrium001_002_0.npy']
    """
    settings = {
        "name": "atrium", "phantom": True, "version": VERSION, "modality": modality, "patients": patients,
        "slices": slices, "size": size, "seed": seed,
    }  # fmt: skip

    def draw(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        volume, parts = draw_chest(CHEST, slices=slices, size=size, seed=seed, number=number)
        return volume, parts["atrium"].astype(np.uint8)

    return write_slice_phantom(root, draw, settings=settings, file_name=_name_file, field_of_view=360, thickness=6.0)


def _name_file(number: int, index: int, label: int) -> tuple[str, str]:
    patient = f"atrium{number + 1:03d}"
    return f"{patient}_{index:03d}_{label}.npy", patient
