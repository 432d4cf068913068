"""Draw and write the AMD phantom: eyes of four registered en-face images, some of which show the grade.

A patient's eye gets grade 0 to 3 by striped lesions in the carriers; the other images do not depend on the grade. As a
shortcut, a mark in a corner can tell the grade instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_csv
from seewhy.io.image import write_image
from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.options import check_choice
from seewhy.phantoms.drawing import draw_corner_mark
from seewhy.phantoms.writing import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = ["EYE", "INPUTS", "Eye", "EyeRecipe", "draw_eye", "list_eyes", "write_amd_phantom"]

INPUTS = ("mnv", "fluid", "ga", "drusen")
GRADES = 4
VERSION = 3
"""Raised whenever the same settings draw other images, so that older folders are not reused."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class EyeRecipe:
    """Appearance of the eyes.

    Lengths are shares of the image's side; brightness is in units of the full scale, where the background lies
    around 0.3. Pairs are the limits of uniform draws; triples belong to the grades 1, 2 and 3.

    Attributes:
        contrast: brightness of the lesion above its surroundings, by grade.
        radius: radius of a lesion, by grade.
        count: number of lesions, by grade.
        spread: relative deviation of contrast and radius from those of the grade.
        stripes: share of the lesion's brightness removed by its stripes; nothing else is striped.
        period: period of the stripes.
        discs: smallest and largest number of sharp-edged discs without stripes, in every image of any grade; a map
            that merely follows edges or brightness highlights them, too.
        disc_contrast: brightness of the discs; the brightest are brighter than any lesion.
        disc_radius: radius of the discs.
        blobs: smallest and largest number of smooth bright blobs, in every image of any grade.
        blob_contrast: brightness of the blobs.
        blob_radius: radius of the blobs.
        vessel: brightness removed by the vessels, which all images of an eye share.
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
    recipe: EyeRecipe,
    *,
    grade: int,
    carriers: Sequence[str],
    mark: tuple[str, int] | None = None,
    inputs: Sequence[str] = INPUTS,
    size: int,
    seed: int,
    number: int,
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]:
    """Draw one eye; the same arguments give the same bytes.

    Every image has a separate random stream, so that images without the lesion are the same for every grade, and images
    outside the mark the same for every mark.

    Args:
        recipe: appearance of the eyes.
        grade: of the lesions, 0 (none) to 3.
        carriers: the images that show the lesions, the same in each.
        mark: image with a mark in a corner, and the grade that the mark tells; None draws no mark.
        inputs: names of all images.
        size: pixels per side.
        seed: seed of the data set.
        number: the eye's number, counted from 0; an eye does not depend on how many others are drawn.

    Returns:
        Images [size, size] in 0..255 by name, and masks [size, size] in {0, 1} of what tells the grade, by name of the
        image that has it: the mark, or without one the lesions.

    Example:
        >>> from seewhy.phantoms.amd import EYE, draw_eye
        >>> images, masks = draw_eye(EYE, grade=2, carriers=["fluid"], size=48, seed=0, number=0)
        >>> list(images), list(masks), masks["fluid"].shape
        (['mnv', 'fluid', 'ga', 'drusen'], ['fluid'], (48, 48))
        >>> healthy, _ = draw_eye(EYE, grade=0, carriers=["fluid"], size=48, seed=0, number=0)
        >>> bool((images["ga"] == healthy["ga"]).all()), bool((images["fluid"] == healthy["fluid"]).all())
        (True, False)
    """
    vessels = _draw_vessels(np.random.default_rng([seed, number, 0]), size)
    lesion, mask = _draw_lesions(np.random.default_rng([seed, number, 1]), recipe, grade, size)
    masks = {name: mask for name in inputs if name in carriers}
    images = {}
    for place, name in enumerate(inputs):
        rng = np.random.default_rng([seed, number, 2 + place])
        image = _draw_tissue(rng, recipe, size) + _draw_blobs(rng, recipe, size) - np.float32(recipe.vessel) * vessels
        if name in carriers:
            # A lesion covers the tissue below it, so that nothing hides its stripes.
            image = np.where(mask > 0, 0.3 + lesion, image)
        if mark is not None and name == mark[0]:
            texture, inside = draw_corner_mark(mark[1], size=size, seed=seed, number=number)
            image, masks = np.where(inside, texture, image), {name: inside.astype(np.uint8)}
        image = gaussian_filter(image, 0.4) + recipe.noise * rng.standard_normal((size, size), dtype=np.float32)
        images[name] = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
    return images, masks


def _make_axes(size: int) -> tuple[FloatArray, FloatArray]:
    """Return row and column of the pixel centres, as shares of the side."""
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return axis[:, None], axis[None, :]


def _draw_field(rng: np.random.Generator, size: int, sigma: float) -> FloatArray:
    """Draw a smooth random field of zero mean and unit variance; sigma as a share of the side."""
    # Drawn at one size and resized, so that an eye looks the same at every size.
    base = 96
    field = gaussian_filter(rng.standard_normal((base, base), dtype=np.float32), sigma * base, mode="wrap")
    if size != base:
        field = zoom(field, size / base, order=1, grid_mode=True, mode="nearest")
    return np.asarray((field - field.mean()) / (field.std() + 1e-8), dtype=np.float32)


def _draw_tissue(rng: np.random.Generator, recipe: EyeRecipe, size: int) -> FloatArray:
    """Draw coarse patches and a fine texture around a random level."""
    level = np.float32(rng.uniform(0.22, 0.34))
    return (
        level
        + np.float32(recipe.patches) * _draw_field(rng, size, 0.08)
        + np.float32(recipe.texture) * _draw_field(rng, size, 0.015)
    )


def _draw_vessels(rng: np.random.Generator, size: int) -> FloatArray:
    """Draw 1 on thin winding lines: where a smooth field changes its sign, broken up by a second field."""
    field = _draw_field(rng, size, 0.09)
    slope = np.hypot(*np.gradient(field)) * size
    distance = np.abs(field) / (slope + 1e-6)
    lines = (distance < rng.uniform(0.008, 0.013)) & (_draw_field(rng, size, 0.1) > -0.3)
    return lines.astype(np.float32)


def _draw_blobs(rng: np.random.Generator, recipe: EyeRecipe, size: int) -> FloatArray:
    """Draw smooth bright blobs and sharp-edged discs, which do not depend on the grade."""
    y, x = _make_axes(size)
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


def _draw_lesions(
    rng: np.random.Generator, recipe: EyeRecipe, grade: int, size: int
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Draw the brightness of striped round lesions with a sharp edge, and their mask."""
    y, x = _make_axes(size)
    image, mask = np.zeros((size, size), np.float32), np.zeros((size, size), bool)
    rough = _draw_field(rng, size, 0.03)
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


@dataclass(frozen=True)
class Eye:
    """Row of the table.

    Attributes:
        number: of the eye, counted from 0.
        patient: name of the patient.
        side: `L` or `R`.
        label: grade in the table, 0 to 3.
    """

    number: int
    patient: str
    side: str
    label: int

    @property
    def name(self) -> str:
        """Name of the eye's files."""
        return f"{self.patient}_{self.side}"

    def grade_lesions(self, mark: str | None, seed: int) -> int:
        """Return the grade of the lesions: the label, but with a mark any, whatever the label is."""
        return self.label if mark is None else int(np.random.default_rng([seed, self.number, 101]).integers(GRADES))


def write_amd_phantom(
    root: str | Path,
    *,
    cases: PositiveInt = 160,
    size: PositiveInt = 96,
    seed: NonNegativeInt = 0,
    carriers: Sequence[str] = ("fluid",),
    mark: str | None = None,
    two_eyes_every: NonNegativeInt = 3,
) -> Path:
    """Write `labels.csv`, `<caseID>_<input>.png` and `masks/`, or reuse those of an earlier call.

    All four images of an eye share the vessels; tissue, bright blobs, discs and noise are drawn for each. The carriers
    also show striped, sharp-edged lesions at random positions: none at grade 0, and more, larger and brighter ones
    with a higher grade. Only the stripes distinguish them from the discs. The other images are independent of the
    grade, so a map that highlights them is wrong. Several carriers show the same lesions, so that each tells the grade.

    With `mark` the lesions are of a random grade, and a small square in a random corner of that image tells the grade
    by its texture: a shortcut. A map that highlights lesions is then wrong. The masks are of the squares.

    Args:
        root: the data set's folder.
        cases: number of eyes; the four grades are equally frequent.
        size: pixels per side.
        seed: the same seed gives the same bytes.
        carriers: the images that show the lesions: some of mnv, fluid, ga and drusen.
        mark: the image with the mark; None: none.
        two_eyes_every: every n-th patient has both eyes in the data set; 0: one eye for every patient.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number below its minimum, an unknown carrier or image, or no carrier.
        DataError: `root` holds another phantom or other data.

    Example:
        >>> from seewhy.phantoms.amd import write_amd_phantom
        >>> root = write_amd_phantom("amd", cases=4, size=32)
        >>> print((root / "labels.csv").read_text().splitlines()[0])
        caseID,label,patient
        >>> len(list(root.glob("*.png")))
        16
    """
    check_minimums({"cases": (cases, 1), "size": (size, 32), "seed": (seed, 0), "two_eyes_every": (two_eyes_every, 0)})
    if not carriers or isinstance(carriers, str):
        raise ConfigError(f"phantom.carriers={carriers!r} must be a list of images, e.g. [fluid]")
    for name in carriers:
        check_choice(name, INPUTS, "phantom.carriers")
    if mark is not None:
        check_choice(mark, INPUTS, "phantom.mark")
    settings = {
        "name": "amd", "phantom": True, "version": VERSION, "cases": cases, "size": size, "seed": seed,
        "carriers": list(carriers), "mark": mark, "two_eyes_every": two_eyes_every,
    }  # fmt: skip
    eyes = list_eyes(cases, seed, two_eyes_every)

    def write(folder: Path) -> None:
        (folder / "masks").mkdir()
        for eye in track_slowly(eyes, "writing amd phantom"):
            images, masks = draw_eye(
                EYE, grade=eye.grade_lesions(mark, seed), carriers=carriers,
                mark=None if mark is None else (mark, eye.label), size=size, seed=seed, number=eye.number,
            )  # fmt: skip
            for name, image in images.items():
                write_image(folder / f"{eye.name}_{name}.png", image)
            for name, mask in masks.items():
                write_image(folder / "masks" / f"{eye.name}_{name}_mask.png", mask > 0)
        rows = [{"caseID": eye.name, "label": eye.label, "patient": eye.patient} for eye in eyes]
        write_csv(folder / "labels.csv", rows, columns=("caseID", "label", "patient"))

    masked = {mark} if mark is not None else set(carriers)
    files = {f"*_{name}.png": cases for name in INPUTS} | {f"masks/*_{name}_mask.png": cases for name in masked}
    return write_or_reuse(root, settings, write, files=files, kind="pictures")


def list_eyes(cases: int, seed: int, two_eyes_every: int) -> list[Eye]:
    """List eyes patient by patient; every four successive eyes have the four grades in random order.

    Args:
        cases: number of eyes.
        seed: seed of the data set.
        two_eyes_every: every n-th patient has both eyes; 0: none.
    """
    eyes: list[Eye] = []
    patient = 0
    while len(eyes) < cases:
        both = two_eyes_every > 0 and patient % two_eyes_every == two_eyes_every - 1
        sides = "LR" if both else "LR"[patient % 2]
        for side in sides[: cases - len(eyes)]:
            block, place = divmod(len(eyes), GRADES)
            order = np.random.default_rng([seed, block]).permutation(GRADES)
            eyes.append(Eye(len(eyes), f"P{patient + 1:03d}", side, int(order[place])))
        patient += 1
    return eyes
