"""Where patches lie: positions over the whole volume, the same for every part, tile and region of a run.

Boxes of voxels: one slice per axis in the order z, y, x, with start and stop.

How much each patch counts: weights per axis that sum to one over all patches at every voxel.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.io.zarr.source import Box

__all__ = ["WINDOWS", "BlendingWindow", "PatchGrid", "box_of", "clip", "split", "voxels"]


def box_of(starts: Sequence[int], stops: Sequence[int]) -> Box:
    """The box from `starts` (inside) to `stops` (outside), both ZYX."""
    z, y, x = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def voxels(box: Box) -> int:
    """How many voxels lie in a box; 0 where an axis is empty."""
    return math.prod(max(0, axis.stop - axis.start) for axis in box)


def clip(box: Box, shape: Sequence[int]) -> Box:
    """The part of a box that lies in a volume of `shape`; with an empty axis where they do not meet."""
    starts = [min(max(axis.start, 0), size) for axis, size in zip(box, shape, strict=True)]
    stops = [max(min(axis.stop, size), start) for axis, size, start in zip(box, shape, starts, strict=True)]
    return box_of(starts, stops)


def split(box: Box, size: Sequence[int]) -> Iterator[Box]:
    """The boxes of a grid of `size` anchored at the origin that together are `box`, in the order z, y, x.

    Boxes at its borders are cut off where `box` ends inside a cell of the grid.
    """
    spans = [
        [
            (max(axis.start, low), min(axis.stop, low + step))
            for low in range(axis.start // step * step, axis.stop, step)
        ]
        for axis, step in zip(box, size, strict=True)
    ]
    for z in spans[0]:
        for y in spans[1]:
            for x in spans[2]:
                yield box_of((z[0], y[0], x[0]), (z[1], y[1], x[1]))


class PatchGrid:
    """Patch positions of nnU-Net over a whole volume.

    Per axis the positions are spread evenly so that neighbours are at most `patch * (1 - overlap)` apart and the
    last patch touches the end: n = ceil((N - P) / (P (1 - overlap))) + 1 starts at round(i (N - P) / (n - 1))
    (Isensee 2021, `compute_steps_for_sliding_window`). They depend on the volume's shape alone, never on the region
    that is asked for, so that a region's voxels are those of a full run. Along an axis shorter than the patch there
    is one patch, centred on the volume; what sticks out is padding.

    Args:
        shape: the volume, ZYX.
        patch: the network's input, ZYX.
        overlap: the share of a patch, per axis, that its neighbour covers too; in [0, 1).

    Raises:
        ConfigError: for a patch or overlap out of range.
    """

    def __init__(self, *, shape: Sequence[int], patch: Sequence[int], overlap: float = 0.5) -> None:
        self.shape, self.patch, self.overlap = _triple(shape, "shape"), _triple(patch, "patch"), float(overlap)
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap={overlap}: the share that neighbouring patches have in common, in [0, 1)")
        # A patch of one voxel along an axis (networks of slices) moves by one voxel, whatever the overlap.
        steps = [max(1.0, size * (1 - self.overlap)) for size in self.patch]
        starts = [_starts(n, p, step) for n, p, step in zip(self.shape, self.patch, steps, strict=True)]
        self.starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = (starts[0], starts[1], starts[2])
        """Per axis the first voxel of each patch, rising; negative where the volume is padded."""

    @property
    def count(self) -> int:
        """Patches of the whole volume."""
        return math.prod(len(starts) for starts in self.starts)

    def covering(self, axis: int, low: int, high: int) -> range:
        """Positions along an axis whose patches reach into the voxels from `low` (inside) to `high` (outside)."""
        starts, size = self.starts[axis], self.patch[axis]
        first, end = bisect_right(starts, low - size), bisect_left(starts, high)
        return range(first, end) if first < end else range(0)

    def box(self, position: Sequence[int]) -> Box:
        """The voxels of one patch, given its position along z, y and x; it sticks out where the volume is padded."""
        starts = [axis[index] for axis, index in zip(self.starts, position, strict=True)]
        return box_of(starts, [start + size for start, size in zip(starts, self.patch, strict=True)])


def _starts(length: int, patch: int, step: float) -> tuple[int, ...]:
    """First voxels of the patches along one axis."""
    if length <= patch:
        return (-((patch - length) // 2),)
    # The tolerance keeps a step that is a whole number in decimals from costing one more patch, as 1 - 0.9 would.
    count = math.ceil((length - patch) / step - 1e-9) + 1
    return tuple(round(index * (length - patch) / (count - 1)) for index in range(count))


def _triple(values: Sequence[int], name: str) -> tuple[int, int, int]:
    numbers = tuple(int(value) for value in values)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ConfigError(f"{name}={list(values)}: expected three positive numbers, z, y and x")
    return numbers[0], numbers[1], numbers[2]


class BlendingWindow:
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

    def to(self, device: torch.device) -> BlendingWindow:
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
