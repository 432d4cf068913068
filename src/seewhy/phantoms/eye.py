"""Drawing synthetic eyes: four registered en-face images, of which one shows what the grade depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

__all__ = ["EYE", "INPUTS", "EyeRecipe", "draw_eye"]

INPUTS = ("mnv", "fluid", "ga", "drusen")

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class EyeRecipe:
    """What eyes look like.

    Lengths are shares of the image's side; brightness is in units of the full scale, where the background lies
    around 0.3. Pairs are the ends of uniform draws; triples go with the grades 1, 2 and 3.

    Attributes:
        contrast: brightness of the lesion above its surroundings, by grade.
        radius: of one lesion, by grade.
        count: number of lesions, by grade.
        spread: relative deviation of contrast and radius from those of the grade.
        stripes: share of the lesion's brightness that its stripes take away; nothing else is striped.
        period: of the stripes.
        discs: least and greatest number of sharp-edged discs without stripes, in every image whatever the grade;
            a map that merely follows edges or brightness finds them as well.
        disc_contrast: brightness of those; the brightest are brighter than any lesion.
        disc_radius: of those.
        blobs: least and greatest number of smooth bright blobs, which every image has whatever the grade.
        blob_contrast: brightness of those.
        blob_radius: of those.
        vessel: brightness taken away by the vessels, which all images of an eye share.
        texture: deviation of the tissue's fine texture.
        patches: deviation of its coarse patches.
        noise: deviation of the noise.
    """

    contrast: tuple[float, float, float] = (0.46, 0.50, 0.54)
    radius: tuple[float, float, float] = (0.10, 0.125, 0.15)
    count: tuple[int, int, int] = (1, 2, 3)
    spread: float = 0.08
    stripes: float = 0.8
    period: float = 0.055
    discs: tuple[int, int] = (2, 4)
    disc_contrast: tuple[float, float] = (0.45, 0.65)
    disc_radius: tuple[float, float] = (0.05, 0.12)
    blobs: tuple[int, int] = (2, 4)
    blob_contrast: tuple[float, float] = (0.10, 0.30)
    blob_radius: tuple[float, float] = (0.05, 0.13)
    vessel: float = 0.12
    texture: float = 0.02
    patches: float = 0.04
    noise: float = 0.02


EYE = EyeRecipe()


def draw_eye(
    recipe: EyeRecipe, *, grade: int, carrier: str, inputs: Sequence[str] = INPUTS, size: int, seed: int, number: int
) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.uint8]]:
    """Draw one eye; the same arguments give the same bytes.

    Every image is drawn from random numbers of its own, so that those without the lesion are the same
    whatever the grade.

    Args:
        recipe: what eyes look like.
        grade: 0 (no lesion) to 3.
        carrier: the image that shows the lesions.
        inputs: names of all images.
        size: pixels per side.
        seed: of the data set.
        number: of the eye, counted from 0; eyes do not depend on how many others there are.

    Returns:
        Images [size, size] in 0..255 by name, and the mask of the lesions [size, size] in {0, 1}.
    """
    vessels = _vessels(np.random.default_rng([seed, number, 0]), size)
    lesion, mask = _lesions(np.random.default_rng([seed, number, 1]), recipe, grade, size)
    images = {}
    for place, name in enumerate(inputs):
        rng = np.random.default_rng([seed, number, 2 + place])
        image = _tissue(rng, recipe, size) + _blobs(rng, recipe, size) - np.float32(recipe.vessel) * vessels
        if name == carrier:
            # A lesion hides what lies under it, so that nothing takes its stripes away.
            image = np.where(mask > 0, 0.3 + lesion, image)
        image = gaussian_filter(image, 0.4) + recipe.noise * rng.standard_normal((size, size), dtype=np.float32)
        images[name] = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
    return images, mask


def _axes(size: int) -> tuple[FloatArray, FloatArray]:
    """Row and column of the pixels' centres, as shares of the side."""
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return axis[:, None], axis[None, :]


def _field(rng: np.random.Generator, size: int, sigma: float) -> FloatArray:
    """Smooth random field of zero mean and unit variance; sigma as a share of the side."""
    # Drawn at one size and resized, so that an eye of another size is the same eye.
    base = 96
    field = gaussian_filter(rng.standard_normal((base, base), dtype=np.float32), sigma * base, mode="wrap")
    if size != base:
        field = zoom(field, size / base, order=1, grid_mode=True, mode="nearest")
    return np.asarray((field - field.mean()) / (field.std() + 1e-8), dtype=np.float32)


def _tissue(rng: np.random.Generator, recipe: EyeRecipe, size: int) -> FloatArray:
    """Coarse patches, a fine texture and a level of its own."""
    level = np.float32(rng.uniform(0.22, 0.34))
    return (
        level
        + np.float32(recipe.patches) * _field(rng, size, 0.08)
        + np.float32(recipe.texture) * _field(rng, size, 0.015)
    )


def _vessels(rng: np.random.Generator, size: int) -> FloatArray:
    """1 on thin winding lines, 0 elsewhere: where a smooth field changes its sign, broken up by a second one."""
    field = _field(rng, size, 0.09)
    slope = np.hypot(*np.gradient(field)) * size
    distance = np.abs(field) / (slope + 1e-6)
    lines = (distance < rng.uniform(0.008, 0.013)) & (_field(rng, size, 0.1) > -0.3)
    return lines.astype(np.float32)


def _blobs(rng: np.random.Generator, recipe: EyeRecipe, size: int) -> FloatArray:
    """Smooth bright blobs and sharp-edged discs, none of which tells anything."""
    y, x = _axes(size)
    image = np.zeros((size, size), np.float32)
    kinds = (
        (False, recipe.blobs, recipe.blob_radius, recipe.blob_contrast),
        (True, recipe.discs, recipe.disc_radius, recipe.disc_contrast),
    )
    for sharp, count, radii, contrasts in kinds:
        for _ in range(rng.integers(count[0], count[1] + 1)):
            row, column = rng.uniform(0.08, 0.92, 2)
            radius, contrast, squeeze = rng.uniform(*radii), rng.uniform(*contrasts), rng.uniform(0.8, 1.25)
            far = (((y - row) * squeeze) ** 2 + ((x - column) / squeeze) ** 2) / radius**2
            profile = far < 1 if sharp else np.exp(-1.4 * far)
            image = np.maximum(image, np.float32(contrast) * profile.astype(np.float32))
    return image


def _lesions(
    rng: np.random.Generator, recipe: EyeRecipe, grade: int, size: int
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Brightness of striped round lesions with a sharp edge, and where they are."""
    y, x = _axes(size)
    image, mask = np.zeros((size, size), np.float32), np.zeros((size, size), bool)
    rough = _field(rng, size, 0.03)
    for _ in range(recipe.count[grade - 1] if grade else 0):
        vary = 1 + recipe.spread * rng.uniform(-1, 1, 2)
        contrast, radius = recipe.contrast[grade - 1] * vary[0], recipe.radius[grade - 1] * vary[1]
        row, column = rng.uniform(radius + 0.02, 0.98 - radius, 2)
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        inside = np.hypot(y - row, x - column) / radius + 0.08 * rough < 1
        along = (np.cos(angle) * y + np.sin(angle) * x) / recipe.period
        wave = (0.5 + 0.5 * np.sin(2 * np.pi * along + phase)).astype(np.float32)
        image = np.where(inside, np.float32(contrast) * (1 - np.float32(recipe.stripes) * wave), image)
        mask |= inside
    return image, mask.astype(np.uint8)
