"""Drawing synthetic eyes: four registered en-face images, of which one shows what the grade depends on.

AMDPhantom: synthetic eyes whose grade is shown by one of their images, in the format of AMD grading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from seewhy.errors import ConfigError, nearest
from seewhy.io.atomic import write_csv, write_json
from seewhy.io.image import write_image
from seewhy.phantoms.write_cached import check_least, counted, write_once

__all__ = ["AMD_VERSION", "EYE", "INPUTS", "EyeRecipe", "draw_eye", "write_amd_phantom"]

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


AMD_VERSION = 3
"""Raised whenever the same settings would draw other pictures, so that old folders are not taken for new ones."""
GRADES = 4


@dataclass(frozen=True)
class _Eye:
    """One row of the table."""

    number: int
    patient: str
    side: str
    grade: int

    @property
    def name(self) -> str:
        return f"{self.patient}_{self.side}"


def write_amd_phantom(
    root: str | Path,
    *,
    cases: int = 160,
    size: int = 96,
    seed: int = 0,
    carrier: str = "fluid",
    two_eyes_every: int = 3,
) -> Path:
    """Write `labels.csv`, `<caseID>_<input>.png` and `masks/`; nothing happens if they are there already.

    All four images of an eye have the same vessels, and each its own tissue, bright blobs, discs and noise. The
    carrier has besides striped, sharp-edged lesions, at random places: none at grade 0, and more, larger and
    brighter ones the higher the grade. Only stripes tell them from the discs. The other images
    are drawn without looking at the grade, so a map that finds a reason in them is wrong.

    Args:
        root: the data set's folder.
        cases: number of eyes; the four grades are equally frequent.
        size: pixels per side.
        seed: the same seed gives the same bytes.
        carrier: the image that shows the grade: mnv, fluid, ga or drusen.
        two_eyes_every: one patient in so many has both eyes in the data set; 0 gives everyone one eye.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no eye, or a carrier that does not exist.
        DataError: `root` holds another phantom or data that is none.
    """
    check_least({"cases": (cases, 1), "size": (size, 32), "seed": (seed, 0), "two_eyes_every": (two_eyes_every, 0)})
    if carrier not in INPUTS:
        raise ConfigError(f"phantom.carrier={carrier!r} is unknown; {nearest(carrier, INPUTS)}")
    settings = {
        "name": "amd", "phantom": True, "version": AMD_VERSION, "cases": cases, "size": size, "seed": seed,
        "carrier": carrier, "two_eyes_every": two_eyes_every,
    }  # fmt: skip
    eyes = _eyes(cases, seed, two_eyes_every)

    def write(folder: Path) -> None:
        (folder / "masks").mkdir()
        for place in counted(len(eyes), "writing amd phantom"):
            eye = eyes[place]
            images, mask = draw_eye(EYE, grade=eye.grade, carrier=carrier, size=size, seed=seed, number=eye.number)
            for name, image in images.items():
                write_image(folder / f"{eye.name}_{name}.png", image)
            write_image(folder / "masks" / f"{eye.name}_{carrier}_mask.png", mask > 0)
        rows = [{"caseID": eye.name, "label": eye.grade, "patient": eye.patient} for eye in eyes]
        write_csv(folder / "labels.csv", rows, columns=("caseID", "label", "patient"))
        write_json(folder / "dataset.json", settings)

    files = {f"*_{name}.png": cases for name in INPUTS} | {"masks/*_mask.png": cases}
    return write_once(root, settings, write, files=files, kind="pictures")


def _eyes(cases: int, seed: int, two_eyes_every: int) -> list[_Eye]:
    """Eyes of patient after patient; every four in a row have the four grades in random order."""
    eyes: list[_Eye] = []
    patient = 0
    while len(eyes) < cases:
        both = two_eyes_every > 0 and patient % two_eyes_every == two_eyes_every - 1
        sides = "LR" if both else "LR"[patient % 2]
        for side in sides[: cases - len(eyes)]:
            block, place = divmod(len(eyes), GRADES)
            order = np.random.default_rng([seed, block]).permutation(GRADES)
            eyes.append(_Eye(len(eyes), f"P{patient + 1:03d}", side, int(order[place])))
        patient += 1
    return eyes
