"""Training augmentation of planes and volumes, repeatable from the number of the draw alone.

Every class is a set of options and a call. All random numbers of a call come from the generator or seed passed to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch.nn import functional as F

from seewhy.option_types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt
from seewhy.options import call_with_options, check_fields

__all__ = ["Augmentation", "PositiveRange", "VolumeAugmentation", "build_augmentation", "center_crop"]

FloatArray = NDArray[np.float32]
T = TypeVar("T")


def build_augmentation(kind: type[T], options: Mapping[str, Any] | None) -> T | None:
    """Build an augmentation from the plain data of `data.augmentation`; None switches it off.

    Raises:
        ConfigError: an option that does not exist, or a value out of range.

    Example:
        >>> build_augmentation(Augmentation, {"flip": 0.0, "scale": [0.5, 2]}).scale
        (0.5, 2)
        >>> build_augmentation(Augmentation, {"scale": [2, 0.5], "shift": 3})
        Traceback (most recent call last):
        seewhy.errors.ConfigError: data.augmentation.scale=[2, 0.5] must be two rising numbers above 0;
        data.augmentation.shift=3 must be a number, from 0 to 1
    """
    if options is None:
        return None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return call_with_options(kind, values, "data.augmentation")


def _find_range_problems(values: Sequence[float], option: str) -> list[str]:
    rising = 0 < values[0] <= values[1]
    return [] if rising else [f"{option}={list(values)} must be two rising numbers above 0"]


PositiveRange: TypeAlias = Annotated[tuple[float, float], _find_range_problems]
"""Two rising numbers above 0."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of one image with channels.

    Attributes:
        flip: probability of a left-right mirror.
        flip_vertical: probability of an up-down mirror.
        shift: largest shift as a share of the image's side, in both directions.
        scale: range of the zoom factor (uniform in its logarithm); AFA uses (0.5, 2).
        gain: largest relative change of the intensities.
        offset: largest change added to the intensities, in units of the normalised image.
        noise: standard deviation of added noise, in units of the normalised image.
        rotate: largest rotation about the centre in degrees, in both directions.
        hide: probability of each tile of a grid to be replaced by the channel's mean, so that a classifier cannot
            rely on one part of an object alone (Hide-and-Seek, Singh and Lee, arXiv:1704.04232). The grid lies
            elsewhere in every draw.
        hide_size: side of these tiles in pixels.

    Raises:
        ConfigError: values out of range.
    """

    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    shift: Fraction = 0.06
    scale: PositiveRange = (0.85, 1.2)
    gain: Fraction = 0.1
    offset: NonNegativeFloat = 0.1
    noise: NonNegativeFloat = 0.0
    rotate: Annotated[float, Ge(0), Le(180)] = 0.0
    hide: Fraction = 0.0
    hide_size: PositiveInt = 12

    def __post_init__(self) -> None:
        check_fields(self, "data.augmentation")

    def __call__(
        self, image: FloatArray, rng: np.random.Generator, *, size: int | None, padding: FloatArray
    ) -> FloatArray:
        """Augment one image.

        Args:
            image: [C, H, W], normalised.
            rng: generator of this draw.
            size: side of the square to cut out; None keeps H and W.
            padding: [C, 1, 1] value outside the image.

        Returns:
            [C, size, size] or [C, H, W] float32.
        """
        # Every number is drawn in every case, so that switching one change off leaves the others as they were.
        u = rng.random(8)
        _, H, W = image.shape
        height, width = (H, W) if size is None else (size, size)
        zoom = _draw_zoom(self.scale, u[0])
        window = max(1, round(height / zoom)), max(1, round(width / zoom))
        top = _draw_start(H, window[0], self.shift, u[1])
        left = _draw_start(W, window[1], self.shift, u[2])
        out = _crop(image, top, left, *window, padding)
        if window != (height, width):
            out = _resize(out, height, width)
        if self.rotate:
            out = _move_in_plane(out, padding, angle=math.radians(self.rotate * (2 * u[7] - 1)))
        if u[3] < self.flip:
            out = out[:, :, ::-1]
        if u[4] < self.flip_vertical:
            out = out[:, ::-1]
        out = _change_intensity(out, self.gain * (2 * u[5] - 1), self.offset * (2 * u[6] - 1), self.noise, rng)
        return _hide_tiles(out, self.hide, self.hide_size, rng) if self.hide else out


@dataclass(frozen=True, kw_only=True)
class VolumeAugmentation:
    """Random changes of one volume; all its slices are moved alike.

    Attributes:
        flip: probability of mirroring left and right. In brains the side is often the finding, hence 0 by default.
        shift: largest shift within a slice, as a share of its side, in both directions.
        shift_slices: largest shift along the slices, in slices.
        rotate: largest rotation within a slice, in degrees.
        scale: range of the zoom factor within a slice (uniform in its logarithm).
        gain: largest relative change of the intensities.
        offset: largest change added to the intensities, in units of the normalised volume.
        noise: standard deviation of added noise, in units of the normalised volume.

    Raises:
        ConfigError: values out of range.
    """

    flip: Fraction = 0.0
    shift: Fraction = 0.03
    shift_slices: NonNegativeInt = 2
    rotate: NonNegativeFloat = 5.0
    scale: PositiveRange = (0.95, 1.05)
    gain: Fraction = 0.1
    offset: NonNegativeFloat = 0.1
    noise: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "data.augmentation")

    def __call__(
        self, volume: FloatArray, rng: np.random.Generator, *, padding: float, left_right: int | None
    ) -> FloatArray:
        """Augment one volume.

        Args:
            volume: [D, H, W], normalised; it is not written into.
            rng: generator of this draw.
            padding: value outside the volume.
            left_right: the grid's axis from one side of the patient to the other; None if unknown, which
                switches mirroring off.

        Returns:
            [D, H, W] float32.
        """
        # Every number is drawn in every case, so that switching one change off leaves the others as they were.
        u = rng.random(8)
        signed = 2 * u - 1
        out = np.asarray(volume, np.float32)
        if u[0] < self.flip and left_right is not None:
            out = np.flip(out, left_right)
        out = _move_slices(out, round(signed[1] * self.shift_slices), padding)
        zoom = _draw_zoom(self.scale, u[2])
        angle, shift = math.radians(self.rotate * signed[3]), 2 * self.shift * signed[4:6]
        if zoom != 1 or angle or shift.any():
            out = _move_in_plane(out, padding, zoom=zoom, angle=angle, shift=shift)
        return _change_intensity(out, self.gain * signed[6], self.offset * signed[7], self.noise, rng)


def center_crop(image: FloatArray, *, size: int, padding: FloatArray) -> FloatArray:
    """Cut a square out of the centre, padded where the image is smaller.

    Args:
        image: [C, H, W].
        size: side of the square.
        padding: [C, 1, 1] value outside the image.

    Example:
        >>> image = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
        >>> center_crop(image, size=1, padding=np.zeros((1, 1, 1), np.float32)).item()
        4.0
    """
    _, H, W = image.shape
    return _crop(image, (H - size) // 2, (W - size) // 2, size, size, padding)


def _draw_zoom(scale: Sequence[float], draw: float) -> float:
    """Zoom factor of a draw in 0..1, uniform in its logarithm."""
    return float(scale[0] * (scale[1] / scale[0]) ** draw)


def _draw_start(length: int, window: int, shift: float, draw: float) -> int:
    """First row or column of the window: any that shows as much of the image as fits, plus the shift."""
    slack = length - window
    low, high = min(0, slack), max(0, slack)
    extra = round(shift * length)
    return low - extra + int(draw * (high - low + 2 * extra + 1))


def _crop(image: FloatArray, top: int, left: int, height: int, width: int, padding: FloatArray) -> FloatArray:
    """Cut out a window, which may exceed the image."""
    C, H, W = image.shape
    rows = slice(max(top, 0), min(top + height, H))
    columns = slice(max(left, 0), min(left + width, W))
    if rows.stop - rows.start == height and columns.stop - columns.start == width:
        return image[:, rows, columns]
    out = np.empty((C, height, width), np.float32)
    out[:] = padding
    if rows.stop > rows.start and columns.stop > columns.start:
        out[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[:, rows, columns]
    return out


def _resize(image: FloatArray, height: int, width: int) -> FloatArray:
    """Resize bilinearly, with antialiasing if a side shrinks."""
    shrinks = height < image.shape[1] or width < image.shape[2]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    out = F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False, antialias=shrinks)
    return np.asarray(out[0].numpy(), dtype=np.float32)


def _move_slices(volume: FloatArray, count: int, padding: float) -> FloatArray:
    """Shift along the first axis by whole slices."""
    if count == 0:
        return volume
    moved = np.full_like(volume, padding)
    if abs(count) < len(volume):
        moved[max(count, 0) : len(volume) + min(count, 0)] = volume[max(-count, 0) : len(volume) - max(count, 0)]
    return moved


def _move_in_plane(
    planes: FloatArray,
    padding: FloatArray | float,
    *,
    angle: float,
    zoom: float = 1.0,
    shift: Sequence[float] | NDArray[np.float64] = (0.0, 0.0),
) -> FloatArray:
    """Rotate, zoom and shift all planes [N, H, W] alike, bilinearly.

    Args:
        planes: channels of an image or slices of a volume.
        padding: value outside, one or [N, 1, 1].
        angle: in radians, about the centre.
        zoom: factor.
        shift: in half sides (columns, rows).
    """
    _, H, W = planes.shape
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    # From output to input, in half sides: H / W corrects the shear of a rotation where a plane is not square.
    theta = torch.tensor([[cos, -sin * H / W, -shift[0]], [sin * W / H, cos, -shift[1]]], dtype=torch.float32)
    grid = F.affine_grid(theta[None], [1, 1, H, W], align_corners=False)
    # Samples from outside are zero, so the padding is subtracted before and added after.
    tensor = torch.from_numpy(np.ascontiguousarray(planes - padding))[None]
    moved = F.grid_sample(tensor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return np.asarray(moved[0].numpy() + padding, dtype=np.float32)


def _change_intensity(
    image: FloatArray, gain: float, offset: float, noise: float, rng: np.random.Generator
) -> FloatArray:
    """Multiply by 1 + gain, add the offset, add Gaussian noise."""
    out = image * np.float32(1 + gain) + np.float32(offset)
    if noise:
        out = out + np.float32(noise) * rng.standard_normal(out.shape, dtype=np.float32)
    return np.ascontiguousarray(out, dtype=np.float32)


def _hide_tiles(image: FloatArray, share: float, side: int, rng: np.random.Generator) -> FloatArray:
    """Replace tiles by the mean of their channel; the grid begins at a random place."""
    top, left = rng.integers(side, size=2)
    rows, columns = (
        (np.arange(length) + start) // side for length, start in zip(image.shape[1:], (top, left), strict=True)
    )
    hidden = (rng.random((rows[-1] + 1, columns[-1] + 1)) < share)[np.ix_(rows, columns)]
    return np.where(hidden, image.mean((1, 2), keepdims=True), image)
