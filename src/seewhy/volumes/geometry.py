"""Positions of patches over a volume, boxes of voxels, and blending weights that sum to one."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.io.zarr.layout import positive_triple
from seewhy.io.zarr.source import Box
from seewhy.options import check_choice
from seewhy_run.arrays.windows import SIGMA_SCALE, WINDOWS, blending_weights, window_starts

__all__ = ["MOST_SIGMAS", "WINDOWS", "BlendingWindow", "PatchGrid", "box_of", "clip", "split", "voxels"]


MOST_SIGMAS = 64.0
"""Largest `sigma_scale`: with more, weights at the edge of a patch would vanish."""


def box_of(starts: Sequence[int], stops: Sequence[int]) -> Box:
    """Box from `starts` (included) to `stops` (excluded), both ZYX."""
    z, y, x = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def voxels(box: Box) -> int:
    """Number of voxels in a box; 0 if an axis is empty."""
    return math.prod(max(0, axis.stop - axis.start) for axis in box)


def clip(box: Box, shape: Sequence[int]) -> Box:
    """Part of a box inside a volume of `shape`; has an empty axis if there is no overlap."""
    starts = [min(max(axis.start, 0), size) for axis, size in zip(box, shape, strict=True)]
    stops = [max(min(axis.stop, size), start) for axis, size, start in zip(box, shape, starts, strict=True)]
    return box_of(starts, stops)


def split(box: Box, size: Sequence[int]) -> Iterator[Box]:
    """Split a box along a grid of cells of `size` anchored at the origin, in the order z, y, x.

    Boxes at the border are smaller if `box` ends inside a cell.
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
    """Patch positions over a whole volume, as in nnU-Net.

    Per axis the positions are spaced evenly so that neighbours are at most `patch * (1 - overlap)` apart and the
    last patch touches the end: n = ceil((N - P) / (P (1 - overlap))) + 1 starts at round(i (N - P) / (n - 1))
    (Isensee 2021, `compute_steps_for_sliding_window`). They depend only on the volume's shape, not on the
    requested region, so a region has the same voxels as in a full run. Along an axis shorter than the patch there is
    one patch, centred on the volume; the rest of it is padding.

    Args:
        shape: the volume, ZYX.
        patch: the network's input, ZYX.
        overlap: fraction of a patch, per axis, that its neighbour also covers; in [0, 1).

    Raises:
        ConfigError: a patch or overlap out of range.

    Example:
        >>> grid = PatchGrid(shape=(64, 40, 24), patch=(32, 32, 32), overlap=0.5)
        >>> grid.starts
        ((0, 16, 32), (0, 8), (-4,))
        >>> grid.count
        6
    """

    def __init__(self, *, shape: Sequence[int], patch: Sequence[int], overlap: float = 0.5) -> None:
        self.shape, self.patch, self.overlap = (
            positive_triple(shape, "shape"),
            positive_triple(patch, "patch"),
            float(overlap),
        )
        if not 0 <= self.overlap < 1:
            raise ConfigError(
                f"overlap={overlap}; expected the fraction of a patch that its neighbour also covers, in [0, 1)"
            )
        starts = [window_starts(n, p, self.overlap) for n, p in zip(self.shape, self.patch, strict=True)]
        self.starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = (starts[0], starts[1], starts[2])
        """Per axis the first voxel of each patch, rising; negative if the volume is padded."""

    @property
    def count(self) -> int:
        """Number of patches of the whole volume."""
        return math.prod(len(starts) for starts in self.starts)

    def covering(self, axis: int, low: int, high: int) -> range:
        """Positions along an axis whose patches overlap the voxels from `low` (included) to `high` (excluded)."""
        starts, size = self.starts[axis], self.patch[axis]
        first, end = bisect_right(starts, low - size), bisect_left(starts, high)
        return range(first, end) if first < end else range(0)

    def box(self, position: Sequence[int]) -> Box:
        """Voxels of the patch at a position along z, y and x; extends beyond the volume if that is padded."""
        starts = [axis[index] for axis, index in zip(self.starts, position, strict=True)]
        return box_of(starts, [start + size for start, size in zip(starts, self.patch, strict=True)])


class BlendingWindow:
    """Blending weights of patches: a partition of unity over a grid.

    Along each axis patch k weighs voxel v with g(v - s_k) / sum_j g(v - s_j), where s_k are the starts of the grid
    and g is the profile. The grid is a product of its axes, so the products of three such weights sum to one at
    every voxel: no volume of weights is stored, and there is no division by a sum that may be tiny. Without skipped
    patches this equals sum(g · logits) / sum(g) of the three-dimensional window g(z) g(y) g(x).

    Args:
        grid: the positions.
        kind: the profile, one of `WINDOWS`:
            ``gaussian`` is exp(-(v - (P - 1) / 2)² / (2 σ²)) with σ = P / `sigma_scale`, as in MONAI;
            ``nnunet`` the same σ, filtered from an impulse at P // 2 and truncated at 4 σ, as in
            nnU-Net's predictor (half a voxel off the centre of an even patch);
            ``hann`` is sin²(π (v + 1) / (P + 1)); ``constant`` is 1.
        sigma_scale: patches in a standard deviation of ``gaussian`` and ``nnunet``, as P / σ.

    Attributes:
        kind: the profile.
        settings: profile and, where it is not the usual 8, its `sigma_scale`, for a fingerprint.

    Raises:
        ConfigError: an unknown profile.

    Example:
        >>> grid = PatchGrid(shape=(6, 4, 4), patch=(4, 4, 4), overlap=0.5)
        >>> window = BlendingWindow(grid, kind="constant")
        >>> [float(window.weights((z, 0, 0))[2, 0, 0]) for z in range(grid.count)]
        [0.5, 1.0]
    """

    def __init__(self, grid: PatchGrid, *, kind: str = "gaussian", sigma_scale: float = SIGMA_SCALE) -> None:
        check_choice(kind, WINDOWS, "window")
        if not 0 < sigma_scale <= MOST_SIGMAS:
            raise ConfigError(f"sigma_scale={sigma_scale!r} must be above 0 and at most {MOST_SIGMAS:g}")
        self.kind = kind
        self.settings = kind if sigma_scale == SIGMA_SCALE else f"{kind}, sigma_scale {sigma_scale:g}"
        self.axes: tuple[Tensor, ...] = tuple(
            torch.from_numpy(blending_weights(size, starts, kind, sigma_scale))
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
