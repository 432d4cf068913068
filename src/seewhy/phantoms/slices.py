"""Draw and write slice phantoms: brains with a tumour (named like BraTS) and hearts with an atrium (named like LASC).

A patient is a body with bright structures that are normal, and often a lesion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from seewhy.io.atomic import write_csv
from seewhy.io.npy import write_npy
from seewhy.io.slices import IMAGES, MANIFEST_COLUMNS, MASKS
from seewhy.option_types import NonNegativeInt, PositiveInt
from seewhy.phantoms.write_cached import check_minimums, write_or_reuse
from seewhy.progress import track_slowly

__all__ = [
    "ATRIUM",
    "TUMOUR",
    "Recipe",
    "draw_patient",
    "write_atrium_phantom",
    "write_tumour_phantom",
]

FloatArray = NDArray[np.float32]
VERSION = 1
"""Raised whenever the same settings draw other images, so that older folders are not reused."""

Name = Callable[[int, int, int], tuple[str, str]]
"""(patient number, slice, label) → (file name, patient id)."""


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
        healthy_every: distance between the numbers of patients without a lesion; None: `first_healthy` alone.
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
    healthy_every: int | None = 7

    def is_healthy(self, number: int) -> bool:
        """Return whether the patient of this number, counted from 0, has no lesion."""
        if self.healthy_every is None:
            return number == self.first_healthy
        return number % self.healthy_every == self.first_healthy


@dataclass(frozen=True)
class BodyFrame:
    """Coordinates of one patient: z in [-1, 1] along the slices, y and x in [-1, 1] inside a slice."""

    z: FloatArray  # [S, 1, 1]
    y: FloatArray  # [1, H, 1]
    x: FloatArray  # [1, 1, W]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.z.shape[0], self.y.shape[1], self.x.shape[2])

    @property
    def pixel(self) -> float:
        """Pixels per unit of length."""
        return self.shape[1] / 2


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
    frame = _make_frame(slices, size)
    level, grow = _draw_body_level(rng, frame)
    volume = _draw_tissue(rng, frame)
    organ = _draw_organ(rng, frame, grow)
    volume = np.where(organ, np.float32(rng.uniform(*recipe.organ)), volume)
    profile, mask = _draw_lesion(rng, recipe, frame, level, organ, healthy=recipe.is_healthy(number))
    mottle = 1 + recipe.mottle * _draw_field(rng, frame, (0.5, 1.1, 1.1))
    volume = volume + np.float32(rng.uniform(*recipe.contrast)) * profile * mottle
    vessels = _draw_vessels(rng, frame) & (profile < 0.05)
    volume = np.where(vessels, np.float32(rng.uniform(*recipe.vessel)), volume)
    volume = np.where(level > 0.90, np.float32(rng.uniform(*recipe.rim)), volume)
    volume = np.where(level > 1.0, np.float32(0), volume)
    image = _acquire(rng, recipe, frame, volume)
    return image, mask.astype(np.uint8)


def _make_frame(slices: int, size: int) -> BodyFrame:
    z = np.linspace(-1, 1, slices, dtype=np.float32) if slices > 1 else np.zeros(1, np.float32)
    axis = np.asarray((np.arange(size) + 0.5) / size * 2 - 1, np.float32)
    return BodyFrame(z[:, None, None], axis[None, :, None], axis[None, None, :])


def _draw_field(rng: np.random.Generator, frame: BodyFrame, sigma: tuple[float, float, float]) -> FloatArray:
    """Draw a smooth random field of zero mean and unit variance; sigma in slices and pixels of a 128-pixel image."""
    S, H, W = frame.shape
    scaled = (sigma[0], sigma[1] * H / 128, sigma[2] * W / 128)
    # Smooth fields are drawn on a coarser grid: the same picture for a fraction of the time.
    step = max(1, int(min(scaled[1:]) / 2))
    coarse = (S, -(-H // step) + 1, -(-W // step) + 1)
    noise = rng.standard_normal(coarse, dtype=np.float32)
    smooth = gaussian_filter(noise, (scaled[0], scaled[1] / step, scaled[2] / step), mode="reflect")
    if step > 1:
        smooth = zoom(smooth, (1, step, step), order=1, grid_mode=True, mode="nearest")
    smooth = smooth[:, :H, :W]
    smooth = smooth - smooth.mean()
    return np.asarray(smooth / (smooth.std() + 1e-8), dtype=np.float32)


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
    level = level + 0.02 * _draw_field(rng, frame, (2.0, 14.0, 14.0))
    return level.astype(np.float32), grow.astype(np.float32)


def _draw_tissue(rng: np.random.Generator, frame: BodyFrame) -> FloatArray:
    """Draw two tissues in smooth patches with a fine texture each, and dark fluid along the midline."""
    patches = np.clip(2.0 * _draw_field(rng, frame, (1.5, 7.0, 7.0)), -1, 1)
    volume = 0.48 + 0.05 * patches + 0.03 * _draw_field(rng, frame, (0.5, 1.8, 1.8))
    fluid = np.abs(frame.x + 0.03 * _draw_field(rng, frame, (1.5, 10.0, 10.0))) < 0.025
    fluid = fluid & (np.abs(frame.y) < 0.6) & (_draw_field(rng, frame, (1.5, 9.0, 9.0)) > -0.3)
    return np.where(fluid, np.float32(0.22), volume).astype(np.float32)


def _draw_organ(rng: np.random.Generator, frame: BodyFrame, grow: FloatArray) -> NDArray[np.bool_]:
    """Draw a pair of ellipses left and right of the midline, with a sharp edge, in every slice of every patient."""
    y0, x0 = rng.uniform(-0.35, 0.35), rng.uniform(0.20, 0.34)
    ry, rx = rng.uniform(0.13, 0.20), rng.uniform(0.09, 0.14)
    size = grow * rng.uniform(0.9, 1.1)
    y = (frame.y - y0 * grow) / (ry * size)
    x = (np.abs(frame.x) - x0 * grow) / (rx * size)
    return np.asarray(y**2 + x**2 + 0.1 * _draw_field(rng, frame, (1.5, 6.0, 6.0)) < 1, dtype=bool)


def _draw_vessels(rng: np.random.Generator, frame: BodyFrame) -> NDArray[np.bool_]:
    """Draw thin winding lines: where a smooth field changes its sign, broken up by a second field."""
    field = _draw_field(rng, frame, (1.0, 8.0, 8.0))
    slope = np.hypot(*np.gradient(field, axis=(1, 2)))
    distance = np.abs(field) / (slope + 1e-6)
    wide = rng.uniform(0.8, 1.3) * frame.shape[1] / 128
    return np.asarray((distance < wide) & (_draw_field(rng, frame, (1.5, 9.0, 9.0)) > 0.1), dtype=bool)


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
    rough = _draw_field(rng, frame, (1.5, 5.0, 5.0))
    if healthy:
        return np.zeros(frame.shape, np.float32), np.zeros(frame.shape, bool)
    flat = np.sqrt(((frame.y - y0) * squeeze) ** 2 + ((frame.x - x0) / squeeze) ** 2) / radius
    shape = np.sqrt(flat**2 + ((frame.z - z0) / depth) ** 2) + 0.12 * rough
    profile = 1 / (1 + np.exp(np.clip((shape - 1) / (softness / 3), -30, 30)))
    profile = profile * (level < 0.86) * ~organ
    mask = profile > 0.5
    enough = mask.mean((1, 2), keepdims=True) >= recipe.min_share
    return (profile * enough).astype(np.float32), mask & enough


def _acquire(rng: np.random.Generator, recipe: Recipe, frame: BodyFrame, volume: FloatArray) -> NDArray[np.uint8]:
    """Simulate the scanner: partial volume, coil sensitivity, Rician noise, gain and 8 bits."""
    blurred = gaussian_filter(volume, (0, 0.5, 0.5))
    field = np.exp(recipe.bias * _draw_field(rng, frame, (4.0, 40.0, 40.0)))
    real = blurred * field + recipe.noise * rng.standard_normal(frame.shape, dtype=np.float32)
    imaginary = recipe.noise * rng.standard_normal(frame.shape, dtype=np.float32)
    gain = 255 * rng.uniform(0.65, 0.85)
    return np.clip(np.rint(gain * np.hypot(real, imaginary)), 0, 255).astype(np.uint8)


TUMOUR = Recipe()
ATRIUM = Recipe(
    radius=(0.22, 0.34),
    depth=(0.50, 0.80),
    contrast=(0.24, 0.38),
    softness=(0.12, 0.20),
    mottle=0.25,
    noise=0.05,
    bias=0.18,
    min_share=0.006,
    # Patients have an atrium, and slices differ in whether they cut it. Version 1 draws patient 3 without one.
    healthy_every=None,
)


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
    return _write_phantom(
        root, name="tumour", file_name=_brats_name, recipe=TUMOUR, modality=modality,
        patients=patients, slices=slices, size=size, seed=seed,
    )  # fmt: skip


def write_atrium_phantom(
    root: str | Path,
    *,
    patients: PositiveInt = 40,
    slices: PositiveInt = 16,
    size: PositiveInt = 128,
    seed: NonNegativeInt = 0,
    modality: str = "lge",
) -> Path:
    """Write slices `atrium<id>_<slice>_<label>.npy` of synthetic hearts, or reuse those of an earlier call.

    The lesion of the tumour phantom becomes a large bright chamber, which about half of the slices cut.

    See `write_tumour_phantom` for arguments, result and errors.

    Example:
        >>> from seewhy.phantoms.slices import write_atrium_phantom
        >>> root = write_atrium_phantom("atrium", patients=1, slices=3, size=32)
        >>> sorted(path.name for path in root.glob("maskSlice/*.npy"))
        ['atrium001_000_0.npy', 'atrium001_001_1.npy', 'atrium001_002_0.npy']
    """
    return _write_phantom(
        root, name="atrium", file_name=_lasc_name, recipe=ATRIUM, modality=modality,
        patients=patients, slices=slices, size=size, seed=seed,
    )  # fmt: skip


def _brats_name(number: int, index: int, label: int) -> tuple[str, str]:
    patient = f"{number + 1:03d}"
    return f"BRATS_{patient}_{index}_{label}.npy", patient


def _lasc_name(number: int, index: int, label: int) -> tuple[str, str]:
    patient = f"atrium{number + 1:03d}"
    return f"{patient}_{index:03d}_{label}.npy", patient


def _write_phantom(
    root: str | Path,
    *,
    name: str,
    file_name: Name,
    recipe: Recipe,
    modality: str,
    patients: PositiveInt,
    slices: PositiveInt,
    size: PositiveInt,
    seed: NonNegativeInt,
) -> Path:
    """Write `imageSlice/`, `maskSlice/`, `manifest.csv` and `dataset.json`, or reuse the same phantom."""
    check_minimums({"patients": (patients, 1), "slices": (slices, 1), "size": (size, 32), "seed": (seed, 0)})
    settings = {
        "name": name, "phantom": True, "version": VERSION, "modality": modality, "patients": patients,
        "slices": slices, "size": size, "seed": seed,
    }  # fmt: skip

    def write(folder: Path) -> None:
        rows: list[dict[str, Any]] = []
        for number in track_slowly(range(patients), f"writing {name} phantom"):
            volume, mask = draw_patient(recipe, slices=slices, size=size, seed=seed, number=number)
            rows += _write_slices(folder, number, volume, mask, file_name, modality)
        write_csv(folder / "manifest.csv", rows, columns=MANIFEST_COLUMNS)

    files = {f"{part}/*.npy": patients * slices for part in (IMAGES, MASKS)}
    return write_or_reuse(root, settings, write, files=files, kind="slices")


def _write_slices(
    folder: Path, number: int, volume: NDArray[np.uint8], mask: NDArray[np.uint8], file_name: Name, modality: str
) -> list[dict[str, Any]]:
    """Write the slices of one patient and return their rows of the manifest."""
    rows = []
    spacing = 240 / volume.shape[-1]  # a field of view of 240 mm, as a head scan has
    for index, (image, region) in enumerate(zip(volume, mask, strict=True)):
        label = int(region.any())
        name, patient = file_name(number, index, label)
        write_npy(folder / IMAGES / name, image)
        write_npy(folder / MASKS / name, region)
        rows.append({
            "file": name, "patient": patient, "slice": index, "label": label, "area": int(region.sum()),
            "modality": modality, "source": "", "spacing_row": spacing, "spacing_col": spacing,
            "spacing_slice": 5.0,
        })  # fmt: skip
    return rows
