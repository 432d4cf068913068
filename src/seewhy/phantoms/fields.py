"""Coordinates and smooth random fields, of which phantoms of volumes are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

__all__ = ["FloatArray", "Frame", "frame_of", "smooth_field"]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Coordinates in [-1, 1] of voxel centres along a volume's three axes, ready to be broadcast."""

    x: FloatArray  # [X, 1, 1]
    y: FloatArray  # [1, Y, 1]
    z: FloatArray  # [1, 1, Z]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three axes."""
        return self.x.shape[0], self.y.shape[1], self.z.shape[2]


def frame_of(shape: tuple[int, int, int]) -> Frame:
    """The coordinates of a volume of this shape."""
    x, y, z = (np.asarray((np.arange(length) + 0.5) / length * 2 - 1, np.float32) for length in shape)
    return Frame(x[:, None, None], y[None, :, None], z[None, None, :])


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> FloatArray:
    """Smooth random field of zero mean and unit variance; sigma in voxels of a volume of 48."""
    width = sigma * min(shape) / 48
    # Smooth fields are drawn on a coarser grid: the same picture for a fraction of the time.
    step = max(1, int(width / 2))
    coarse = tuple(-(-length // step) + 1 for length in shape)
    smooth = gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), width / step, mode="reflect")
    if step > 1:
        smooth = zoom(smooth, step, order=1, grid_mode=True, mode="nearest")
    smooth = smooth[: shape[0], : shape[1], : shape[2]]
    return np.asarray((smooth - smooth.mean()) / (smooth.std() + 1e-8), np.float32)
