"""Coordinates, random fields, soft steps, the simulated scanner and the corner marks from which phantoms are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

__all__ = [
    "TEXTURES",
    "BodyFrame",
    "FloatArray",
    "Frame",
    "acquire_slices",
    "draw_corner_mark",
    "draw_field",
    "draw_stack_field",
    "make_frame",
    "make_stack_frame",
    "soft_step",
]

FloatArray = NDArray[np.float32]
TEXTURES = ("plain", "horizontal stripes", "vertical stripes", "checkerboard")
"""Texture of the mark by class."""
MARK_SIDE = 0.16
"""Side of the square, as a share of the image's side."""
MARK_MARGIN = 0.06
"""Distance of the square from both edges of the image."""
STRIPE_WIDTH = 0.032
"""Width of a stripe."""
DARK, BRIGHT = 0.1, 0.9


# -- slices ---------------------------------------------------------------------------------------------------


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


# -- volumes --------------------------------------------------------------------------------------------------


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


# -- corner marks ---------------------------------------------------------------------------------------------


def draw_corner_mark(label: int, *, size: int, seed: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw the mark of a class; its corner depends on seed and number only.

    Args:
        label: class, 0 to 3.
        size: pixels per side of the image.
        seed: seed of the data set.
        number: number of the image in it.

    Returns:
        Brightness [size, size] in units of the full scale, and the square [size, size], True inside.

    Example:
        >>> from seewhy.phantoms.drawing import draw_corner_mark
        >>> plain, inside = draw_corner_mark(0, size=64, seed=0, number=0)
        >>> striped, same = draw_corner_mark(1, size=64, seed=0, number=0)
        >>> int(inside.sum()), bool((inside == same).all()), bool((plain == striped)[inside].all())
        (100, True, False)
    """
    bottom, right = np.random.default_rng([seed, number, 100]).integers(0, 2, 2)
    side, margin, stripe = round(MARK_SIDE * size), round(MARK_MARGIN * size), max(round(STRIPE_WIDTH * size), 1)
    first = [size - margin - side if far else margin for far in (bottom, right)]
    inside = np.zeros((size, size), bool)
    inside[first[0] : first[0] + side, first[1] : first[1] + side] = True
    rows, columns = ((np.arange(size) - start) // stripe % 2 for start in first)
    down, across = np.broadcast_arrays(rows[:, None], columns[None])
    bright = (np.zeros_like(down), down, across, (down + across) % 2)[label] == 0
    return np.where(bright, BRIGHT, DARK).astype(np.float32), inside
