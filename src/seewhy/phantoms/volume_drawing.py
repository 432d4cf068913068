"""Coordinates, smooth random fields and soft steps from which the volume phantoms are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

__all__ = ["FloatArray", "Frame", "draw_field", "make_frame", "soft_step"]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """Coordinates in [-1, 1] of voxel centres along a volume's three axes, shaped for broadcasting."""

    x: FloatArray  # [X, 1, 1]
    y: FloatArray  # [1, Y, 1]
    z: FloatArray  # [1, 1, Z]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three axes."""
        return self.x.shape[0], self.y.shape[1], self.z.shape[2]


def make_frame(shape: tuple[int, int, int]) -> Frame:
    """Return the coordinates of a volume of this shape."""
    x, y, z = (np.asarray((np.arange(length) + 0.5) / length * 2 - 1, np.float32) for length in shape)
    return Frame(x[:, None, None], y[None, :, None], z[None, None, :])


def draw_field(rng: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> FloatArray:
    """Draw a smooth random field of zero mean and unit variance.

    Args:
        rng: random generator.
        shape: voxels along the three axes.
        sigma: smoothness in voxels of a volume whose shortest side has 48.
    """
    width = sigma * min(shape) / 48
    # Smooth fields are drawn on a coarser grid: the same picture for a fraction of the time.
    step = max(1, int(width / 2))
    coarse = tuple(-(-length // step) + 1 for length in shape)
    smooth = gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), width / step, mode="reflect")
    if step > 1:
        smooth = zoom(smooth, step, order=1, grid_mode=True, mode="nearest")
    smooth = smooth[: shape[0], : shape[1], : shape[2]]
    return np.asarray((smooth - smooth.mean()) / (smooth.std() + 1e-8), np.float32)


def soft_step(distance: FloatArray, width: float, edge: float = 1.0) -> FloatArray:
    """Return 1 where the distance is below the edge and 0 above, with a soft step of some width in between."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - edge) / width, -30, 30))), np.float32)
