"""How much each patch counts: weights per axis that sum to one over all patches at every voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.volumes.grid import PatchGrid

__all__ = ["WINDOWS", "Window"]


class Window:
    """Partition of unity over a grid of patches.

    Along each axis patch k weighs voxel v with g(v - s_k) / sum_j g(v - s_j), where s_k are the starts of the grid
    and g is the profile. The grid is a product of its axes, so the products of three such weights sum to one at
    every voxel: no volume of weights is kept, and nothing is divided by a sum that may be tiny. Without skipped
    patches this equals sum(g · logits) / sum(g) of the three-dimensional window g(z) g(y) g(x).

    Args:
        grid: the positions.
        kind: the profile, one of `WINDOWS`:
            ``gaussian`` is exp(-(v - (P - 1) / 2)² / (2 σ²)) with σ = P / 8, as in MONAI;
            ``nnunet`` the same σ, filtered from a single one at P // 2 and cut at 4 σ, as nnU-Net's own
            predictor makes it (half a voxel off the centre of an even patch);
            ``hann`` is sin²(π (v + 1) / (P + 1)); ``constant`` is 1.

    Raises:
        ConfigError: for an unknown profile.
    """

    def __init__(self, grid: PatchGrid, *, kind: str = "gaussian") -> None:
        if kind not in WINDOWS:
            raise ConfigError(f"window={kind!r} is unknown; {nearest(kind, WINDOWS)}")
        self.kind = kind
        self.axes: tuple[Tensor, ...] = tuple(
            torch.from_numpy(_normalised(WINDOWS[kind](size), starts).astype(np.float32))
            for size, starts in zip(grid.patch, grid.starts, strict=True)
        )
        """Per axis [positions, P] float32."""

    def to(self, device: torch.device) -> Window:
        """Move the weights to a device."""
        self.axes = tuple(axis.to(device) for axis in self.axes)
        return self

    def weights(self, position: Sequence[int]) -> Tensor:
        """Weights [P, P, P] float32 of the patch at a position along z, y and x."""
        z, y, x = (axis[index] for axis, index in zip(self.axes, position, strict=True))
        return z[:, None, None] * (y[:, None] * x)


def _gaussian(size: int) -> np.ndarray[Any, Any]:
    offset = np.arange(size) - (size - 1) / 2
    return np.exp(-0.5 * (offset / (size / 8)) ** 2)


def _nnunet(size: int) -> np.ndarray[Any, Any]:
    impulse = np.zeros(size)
    impulse[size // 2] = 1
    profile = gaussian_filter1d(impulse, size / 8, mode="constant", cval=0)
    # What the cut-off leaves at zero gets the smallest weight there is, so that no voxel is without any.
    return np.maximum(profile, profile[profile > 0].min())


def _hann(size: int) -> np.ndarray[Any, Any]:
    return np.sin(np.pi * (np.arange(size) + 1) / (size + 1)) ** 2


WINDOWS: dict[str, Callable[[int], np.ndarray[Any, Any]]] = {
    "gaussian": _gaussian,
    "nnunet": _nnunet,
    "hann": _hann,
    "constant": np.ones,
}


def _normalised(profile: np.ndarray[Any, Any], starts: Sequence[int]) -> np.ndarray[Any, Any]:
    """[positions, P] float64: the profile at each position over the sum of all positions' profiles there."""
    total = np.zeros(starts[-1] - starts[0] + len(profile))
    places = [slice(start - starts[0], start - starts[0] + len(profile)) for start in starts]
    for place in places:
        total[place] += profile
    return np.stack([profile / total[place] for place in places])
