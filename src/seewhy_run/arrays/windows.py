"""Sliding windows over a volume: first voxels per axis, and weights that sum to one at every voxel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIGMA_SCALE", "WINDOWS", "blending_weights", "window_starts"]

SIGMA_SCALE = 8.0
"""Side of a patch in standard deviations of a Gaussian window."""


def window_starts(length: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the windows along one axis, evenly spaced as in nnU-Net; negative where the volume is padded.

    Args:
        length: voxels of the volume.
        patch: voxels of a window.
        overlap: share of a window that its neighbour also covers.

    Example:
        >>> window_starts(64, 32, 0.5), window_starts(24, 32, 0.5)
        ((0, 16, 32), (-4,))
    """
    # A window of one voxel along an axis (networks of slices) moves by one voxel, whatever the overlap.
    step = max(1.0, patch * (1 - overlap))
    if length <= patch:
        return (-((patch - length) // 2),)
    # The tolerance avoids one more window if the step is whole in decimals but not in binary, as with 1 - 0.9.
    count = math.ceil((length - patch) / step - 1e-9) + 1
    return tuple(round(index * (length - patch) / (count - 1)) for index in range(count))


def blending_weights(
    size: int, starts: Sequence[int], kind: str, sigma_scale: float = SIGMA_SCALE
) -> NDArray[np.float32]:
    """Weights [windows, size] along one axis: the profile at each position divided by the sum of all profiles there."""
    profile = WINDOWS[kind](size, sigma_scale)
    total = np.zeros(starts[-1] - starts[0] + size)
    spans = [slice(start - starts[0], start - starts[0] + size) for start in starts]
    for span in spans:
        total[span] += profile
    return np.stack([profile / total[span] for span in spans]).astype(np.float32)


def _gaussian(size: int, sigma_scale: float = SIGMA_SCALE) -> NDArray[Any]:
    offset = np.arange(size) - (size - 1) / 2
    return np.exp(-0.5 * (offset / (size / sigma_scale)) ** 2)


def _nnunet(size: int, sigma_scale: float = SIGMA_SCALE) -> NDArray[Any]:
    """An impulse at `size` // 2 filtered by a Gaussian that is cut off at four deviations."""
    deviation = size / sigma_scale
    reach = int(4 * deviation + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    offset = np.arange(size) - size // 2
    profile = np.where(np.abs(offset) <= reach, kernel[np.clip(offset + reach, 0, 2 * reach)], 0.0)
    # Weights that the truncation sets to zero get the smallest positive weight, so every voxel has one.
    return np.maximum(profile, profile[profile > 0].min())


def _hann(size: int, sigma_scale: float = SIGMA_SCALE) -> NDArray[Any]:
    return np.sin(np.pi * (np.arange(size) + 1) / (size + 1)) ** 2


def _constant(size: int, sigma_scale: float = SIGMA_SCALE) -> NDArray[Any]:
    return np.ones(size)


WINDOWS: dict[str, Callable[..., NDArray[Any]]] = {
    "gaussian": _gaussian,
    "nnunet": _nnunet,
    "hann": _hann,
    "constant": _constant,
}
"""Name → weights of a window along one axis."""
