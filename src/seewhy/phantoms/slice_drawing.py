"""Coordinates, smooth random fields and the simulated scanner from which the slice phantoms are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

__all__ = ["BodyFrame", "acquire_slices", "draw_stack_field", "make_stack_frame"]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class BodyFrame:
    """Coordinates of one patient: z in [-1, 1] along the slices, y and x in [-1, 1] inside a slice."""

    z: FloatArray  # [S, 1, 1]
    y: FloatArray  # [1, H, 1]
    x: FloatArray  # [1, 1, W]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        return (self.z.shape[0], self.y.shape[1], self.x.shape[2])


def make_stack_frame(slices: int, size: int) -> BodyFrame:
    """Return the coordinates of a stack of square slices.

    Example:
        >>> make_stack_frame(3, 32).shape
        (3, 32, 32)
    """
    z = np.linspace(-1, 1, slices, dtype=np.float32) if slices > 1 else np.zeros(1, np.float32)
    axis = np.asarray((np.arange(size) + 0.5) / size * 2 - 1, np.float32)
    return BodyFrame(z[:, None, None], axis[None, :, None], axis[None, None, :])


def draw_stack_field(rng: np.random.Generator, frame: BodyFrame, sigma: tuple[float, float, float]) -> FloatArray:
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


def acquire_slices(
    rng: np.random.Generator, frame: BodyFrame, volume: FloatArray, *, noise: float, bias: float
) -> NDArray[np.uint8]:
    """Simulate the scanner: partial volume, coil sensitivity, Rician noise, gain and 8 bits.

    Args:
        rng: random generator.
        frame: coordinates of the volume.
        volume: [S, H, W] brightness, where tissue is about 0.5 and the scanner's full scale is 1.
        noise: standard deviation of the Rician noise.
        bias: standard deviation of the logarithm of the coil's sensitivity.

    Returns:
        [S, H, W] in 0..255.
    """
    blurred = gaussian_filter(volume, (0, 0.5, 0.5))
    field = np.exp(bias * draw_stack_field(rng, frame, (4.0, 40.0, 40.0)))
    real = blurred * field + noise * rng.standard_normal(frame.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(frame.shape, dtype=np.float32)
    gain = 255 * rng.uniform(0.65, 0.85)
    return np.clip(np.rint(gain * np.hypot(real, imaginary)), 0, 255).astype(np.uint8)
