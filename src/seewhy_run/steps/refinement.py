"""Refinement of maps on arrays: a random walk along affinities, and averages over pixels of similar intensity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.activations import softmax
from seewhy_run.arrays.resizing import interpolate

__all__ = ["refine_by_intensity", "walk_along"]

Maps = NDArray[np.float32]
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def walk_along(
    evidence: Maps, affinity: Maps, *, radius: float = 8, power: float = 2.0, steps: float = 1, damping: float = 0.1
) -> Maps:
    """Propagate evidence along affinities to nearby tokens; see `seewhy.nets.affinity.RandomWalk`.

    Args:
        evidence: [B, K, h, w] on the grid of tokens.
        affinity: [B, h·w, h·w] in [0, 1].
        radius: largest step in tokens.
        power: exponent that sharpens the affinity.
        steps: number of steps.
        damping: added to the sum of each column.
    """
    height, width = evidence.shape[-2:]
    rows, columns = np.repeat(np.arange(height), width), np.tile(np.arange(width), height)
    near = (abs(rows[:, None] - rows) <= radius) & (abs(columns[:, None] - columns) <= radius)
    weights = np.where(near, affinity, 0).astype(np.float32) ** np.float32(power)
    weights /= weights.sum(axis=1, keepdims=True) + np.float32(damping)
    walked = evidence.reshape(*evidence.shape[:2], -1)
    for _ in range(int(steps)):
        walked = walked @ weights
    return walked.reshape(evidence.shape)


def refine_by_intensity(
    image: Maps,
    maps: Maps,
    *,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
    iterations: int = 10,
    downscale: int = 2,
    scale: float = 0.3,
    position_weight: float = 0.01,
) -> Maps:
    """Average maps over neighbours of similar intensity; see `seewhy.nets.refinement.PixelAdaptiveRefinement`.

    Args:
        image: [B, C, H, W].
        maps: [B, K, h, w], resized to the downscaled image.
        dilations: distances of the neighbours, in pixels of the downscaled image.
        iterations: number of iterations.
        downscale: factor by which image and maps are downscaled first.
        scale: width of both kernels, in standard deviations.
        position_weight: weight of the distance kernel relative to the intensity kernel.

    Returns:
        [B, K, H // downscale, W // downscale].
    """
    size = (max(1, image.shape[2] // downscale), max(1, image.shape[3] // downscale))
    refined = interpolate(maps, size)
    if not iterations:
        return refined
    offsets = [(d * row, d * column) for d in dilations for row, column in DIRECTIONS]
    small = interpolate(image, size)
    neighbours = np.stack(_shift(small, offsets))
    deviation = neighbours.std(axis=0, ddof=1) + np.float32(1e-8)
    similarity = -(((neighbours - small) / deviation / np.float32(scale)) ** 2).mean(axis=2, keepdims=True)
    distances = np.array([math.hypot(*offset) for offset in offsets], np.float32)
    nearness = softmax(-((distances / (distances.std(ddof=1) + 1e-8) / scale) ** 2), axis=0)
    weights = softmax(similarity, axis=0) + np.float32(position_weight) * nearness.reshape(-1, 1, 1, 1, 1)
    for _ in range(iterations):
        refined = sum(shifted * weight for shifted, weight in zip(_shift(refined, offsets), weights, strict=True))
    return np.asarray(refined, np.float32)


def _shift(maps: Maps, offsets: Sequence[tuple[int, int]]) -> list[Maps]:
    """The maps shifted by each offset, as views of one copy with repeated edges."""
    reach = max(max(abs(row), abs(column)) for row, column in offsets)
    height, width = maps.shape[-2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    return [
        padded[..., reach + row : reach + row + height, reach + column : reach + column + width]
        for row, column in offsets
    ]
