"""Drawing synthetic brains as what they are made of: relaxation times and proton density, with a tumour in most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seewhy.phantoms.fields import FloatArray, Frame, frame_of, smooth_field

__all__ = ["TISSUES", "Brain", "BrainRecipe", "draw_brain"]

TISSUES: dict[str, tuple[float, float, float]] = {
    "fluid": (4000.0, 1500.0, 1.00),
    "gray": (1300.0, 100.0, 0.82),
    "white": (830.0, 75.0, 0.70),
    "oedema": (1550.0, 160.0, 0.88),
    "core": (2100.0, 230.0, 0.92),
    "enhancing": (1450.0, 120.0, 0.86),
}
"""T1 and T2 in ms at about 1.5 T, and proton density relative to fluid: values of the usual size, not of a person."""
LABELS = {"core": 1, "oedema": 2, "enhancing": 4}
"""Labels of the annotation, as BraTS has them."""


@dataclass(frozen=True)
class BrainRecipe:
    """What the brains look like; lengths are in units of half the volume, pairs the ends of uniform draws.

    Attributes:
        radii: smallest and largest half axes, towards left, anterior and superior.
        tumour: share of brains with a tumour.
        radius: of a tumour with its oedema.
        enhanced: T1 of enhancing tissue after contrast agent, relative to before.
        variation: standard deviation of the relaxation times from brain to brain, relative.
        texture: the same within a tissue.
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
        recipe: what such brains look like.
        shape: voxels towards left, anterior and superior.
        rng: of this brain.
    """
    frame = frame_of(shape)
    level = _level(rng, recipe, frame)
    inside = level < 1
    shares = _tissues(rng, frame, level)
    labels = np.zeros(shape, np.uint8)
    tumour = _tumour(rng, recipe, frame, level)
    if rng.uniform() < recipe.tumour:
        for name, region in tumour.items():
            shares = {other: share * (1 - region) for other, share in shares.items()}
            shares[name] = region
            labels[(region > 0.5) & inside] = LABELS[name]
    t1, t2, density = _properties(rng, recipe, shares)
    lowered = 1 - (1 - recipe.enhanced) * shares.get("enhancing", np.float32(0))
    return Brain(
        t1=t1,
        t1_enhanced=np.asarray(t1 * lowered, np.float32),
        t2=t2,
        density=np.where(inside, density, 0).astype(np.float32),
        inside=inside,
        labels=labels,
    )


def _level(rng: np.random.Generator, recipe: BrainRecipe, frame: Frame) -> FloatArray:
    """Below 1 inside the brain."""
    radii, shift = rng.uniform(*recipe.radii), rng.normal(0, 0.02, 3)
    square = sum(
        ((axis - move) / radius) ** 2
        for axis, move, radius in zip((frame.x, frame.y, frame.z), shift, radii, strict=True)
    )
    return np.asarray(np.sqrt(square) + 0.02 * smooth_field(rng, frame.shape, 5), np.float32)


def _tissues(rng: np.random.Generator, frame: Frame, level: FloatArray) -> dict[str, FloatArray]:
    """Share of each sound tissue in each voxel; they add up to 1."""
    folds = level + 0.055 * smooth_field(rng, frame.shape, 2) + 0.03 * smooth_field(rng, frame.shape, 4)
    apart = rng.uniform(0.10, 0.15)
    ventricle = ((np.abs(frame.x) - apart) / 0.07) ** 2 + ((frame.y - 0.02) / 0.34) ** 2
    ventricle = ventricle + ((frame.z - 0.10) / rng.uniform(0.14, 0.26)) ** 2 + 0.2 * smooth_field(rng, frame.shape, 3)
    fissure = np.maximum(np.abs(frame.x) / 0.03, (0.6 - level) / 0.05 + 1)
    nucleus = ((np.abs(frame.x) - apart - 0.16) / 0.12) ** 2 + ((frame.y + 0.02) / 0.26) ** 2 + (frame.z / 0.22) ** 2
    fluid = np.maximum.reduce([_soft(ventricle, 0.2), _soft(fissure, 0.3), _soft(-level, 0.02, -0.955)])
    gray = np.maximum(_soft(-folds, 0.03, -0.74), _soft(nucleus, 0.2)) * (1 - fluid)
    return {"fluid": fluid, "gray": gray, "white": 1 - fluid - gray}


def _tumour(rng: np.random.Generator, recipe: BrainRecipe, frame: Frame, level: FloatArray) -> dict[str, FloatArray]:
    """Oedema, and in it the enhancing rim of a core: share of each in each voxel, to be laid over each other."""
    allowed = np.argwhere(level < 0.66)
    i, j, k = allowed[rng.integers(len(allowed))]
    square = (frame.x - frame.x[i]) ** 2 + (frame.y - frame.y[:, j]) ** 2 + (frame.z - frame.z[..., k]) ** 2
    radius, inner = rng.uniform(*recipe.radius), rng.uniform(0.45, 0.65)
    distance = np.sqrt(square) / radius
    rough = distance + 0.16 * smooth_field(rng, frame.shape, 3)
    lumpy = distance + 0.06 * smooth_field(rng, frame.shape, 2)
    return {
        "oedema": _soft(rough, 0.05),
        "enhancing": _soft(lumpy, 0.04, inner),
        "core": _soft(lumpy, 0.04, inner * rng.uniform(0.55, 0.75)),
    }


def _properties(
    rng: np.random.Generator, recipe: BrainRecipe, shares: dict[str, FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """T1, T2 and density of mixed voxels; rates of relaxation mix by share, and differ from brain to brain."""
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
    texture = np.exp(recipe.texture * smooth_field(rng, shape, 1.2))
    t1, t2 = (np.asarray(texture / np.maximum(rate, 1e-6), np.float32) for rate in rates)
    return t1, t2, density


def _soft(distance: FloatArray, width: float, edge: float = 1.0) -> FloatArray:
    """1 where the distance is below the edge, 0 above, with a soft step of some width."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - edge) / width, -30, 30))), np.float32)
