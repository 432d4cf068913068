"""Training augmentation and cropping, repeatable from the number of the draw alone.

Training augmentation of volumes, repeatable from the number of the draw alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.options import call_with_options

__all__ = ["Augmentation", "VolumeAugmentation", "build_augmentation", "center_crop"]

FloatArray = NDArray[np.float32]


T = TypeVar("T")


def build_augmentation(kind: type[T], options: Mapping[str, Any] | None) -> T | None:
    """Build an augmentation from the plain data of `data.augmentation`; None switches it off.

    Raises:
        ConfigError: an option that does not exist, or a value out of range.

    Example:
        >>> build_augmentation(Augmentation, {"scale": [0.5, 2]}).scale
        (0.5, 2)
    """
    if options is None:
        return None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return call_with_options(kind, values, "data.augmentation")


@dataclass(frozen=True)
class Augmentation:
    """What may change between two looks at the same slice; every draw comes from the generator handed in.

    Attributes:
        flip: probability of a left-right mirror.
        flip_vertical: probability of an up-down mirror.
        shift: largest shift as a share of the image's side, in both directions.
        scale: range of the zoom factor (drawn evenly in its logarithm); AFA uses (0.5, 2).
        gain: largest relative change of the intensities.
        offset: largest change added to the intensities, in units of the normalised image.
        noise: standard deviation of added noise, in units of the normalised image.
        rotate: largest turn about the middle in degrees, in both directions.
    """

    flip: float = 0.5
    flip_vertical: float = 0.0
    shift: float = 0.06
    scale: tuple[float, float] = (0.85, 1.2)
    gain: float = 0.1
    offset: float = 0.1
    noise: float = 0.0
    rotate: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"data.augmentation.{name}={getattr(self, name)} must lie in 0..1"
            for name in ("flip", "flip_vertical", "shift", "gain")
            if not 0 <= getattr(self, name) <= 1
        ]
        problems += [
            f"data.augmentation.{name}={getattr(self, name)} must not be negative"
            for name in ("offset", "noise")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.rotate <= 180:
            problems.append(f"data.augmentation.rotate={self.rotate} must lie in 0..180 degrees")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            problems.append(f"data.augmentation.scale={list(self.scale)} must be two rising numbers above 0")
        if problems:
            raise ConfigError("; ".join(problems))

    def __call__(
        self, image: FloatArray, rng: np.random.Generator, *, size: int | None, padding: FloatArray
    ) -> FloatArray:
        """Augment one image.

        Args:
            image: [C, H, W], normalised.
            rng: of this draw.
            size: side of the square to cut out; None keeps H and W.
            padding: [C, 1, 1] value of what lies outside the image.

        Returns:
            [C, size, size] or [C, H, W] float32.
        """
        # Every number is drawn in every case, so that switching one change off leaves the others as they were.
        u = rng.random(8)
        _, H, W = image.shape
        height, width = (H, W) if size is None else (size, size)
        zoom = self.scale[0] * (self.scale[1] / self.scale[0]) ** u[0]
        window = max(1, round(height / zoom)), max(1, round(width / zoom))
        top = _start(H, window[0], self.shift, u[1])
        left = _start(W, window[1], self.shift, u[2])
        out = _cut(image, top, left, *window, padding)
        if window != (height, width):
            out = _resize(out, height, width)
        if self.rotate:
            out = _rotate(out, math.radians(self.rotate * (2 * u[7] - 1)), padding)
        if u[3] < self.flip:
            out = out[:, :, ::-1]
        if u[4] < self.flip_vertical:
            out = out[:, ::-1]
        out = out * np.float32(1 + self.gain * (2 * u[5] - 1)) + np.float32(self.offset * (2 * u[6] - 1))
        if self.noise:
            out = out + np.float32(self.noise) * rng.standard_normal(out.shape, dtype=np.float32)
        return np.ascontiguousarray(out, dtype=np.float32)


def center_crop(image: FloatArray, *, size: int, padding: FloatArray) -> FloatArray:
    """Cut a square out of the middle, padded where the image is smaller.

    Args:
        image: [C, H, W].
        size: side of the square.
        padding: [C, 1, 1] value outside the image.
    """
    _, H, W = image.shape
    return _cut(image, (H - size) // 2, (W - size) // 2, size, size, padding)


def _start(length: int, window: int, shift: float, draw: float) -> int:
    """First row or column of the window: anywhere that shows as much of the image as fits, plus the shift."""
    slack = length - window
    low, high = min(0, slack), max(0, slack)
    extra = round(shift * length)
    return low - extra + int(draw * (high - low + 2 * extra + 1))


def _cut(image: FloatArray, top: int, left: int, height: int, width: int, padding: FloatArray) -> FloatArray:
    """A window that may reach over the image's border."""
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


def _rotate(image: FloatArray, angle: float, padding: FloatArray) -> FloatArray:
    """Turn about the middle, bilinear; the angle in radians, the same for all channels."""
    _, H, W = image.shape
    cos, sin = math.cos(angle), math.sin(angle)
    # Sampling coordinates run from -1 to 1 along either side, so a turn of an oblong image mixes them by its sides.
    turn = torch.tensor([[[cos, -sin * H / W, 0], [sin * W / H, cos, 0]]], dtype=torch.float32)
    grid = F.affine_grid(turn, [1, len(image), H, W], align_corners=False)
    # What lies outside is sampled as zero, so the padding is taken off before and put on again after.
    tensor = torch.from_numpy(np.ascontiguousarray(image - padding))[None]
    out = F.grid_sample(tensor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return np.asarray(out[0].numpy() + padding, dtype=np.float32)


def _resize(image: FloatArray, height: int, width: int) -> FloatArray:
    """Bilinear, with antialiasing where it shrinks."""
    shrinks = height < image.shape[1] or width < image.shape[2]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    out = F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False, antialias=shrinks)
    return np.asarray(out[0].numpy(), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class VolumeAugmentation:
    """What may change between two looks at the same volume; every draw comes from the generator handed in.

    All slices of a volume are moved alike.

    Attributes:
        flip: probability of mirroring left and right. In brains the side is often the finding: 0 unless it is not.
        shift: largest shift within a slice, as a share of its side, in both directions.
        shift_slices: largest shift along the slices, in slices.
        rotate: largest turn within a slice, in degrees.
        scale: range of the zoom factor within a slice (drawn evenly in its logarithm).
        gain: largest relative change of the intensities.
        offset: largest change added to the intensities, in units of the normalised volume.
        noise: standard deviation of added noise, in units of the normalised volume.
    """

    flip: float = 0.0
    shift: float = 0.03
    shift_slices: int = 2
    rotate: float = 5.0
    scale: tuple[float, float] = (0.95, 1.05)
    gain: float = 0.1
    offset: float = 0.1
    noise: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"data.augmentation.{name}={getattr(self, name)} must lie in 0..1"
            for name in ("flip", "shift", "gain")
            if not 0 <= getattr(self, name) <= 1
        ]
        problems += [
            f"data.augmentation.{name}={getattr(self, name)} must not be negative"
            for name in ("shift_slices", "rotate", "offset", "noise")
            if getattr(self, name) < 0
        ]
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            problems.append(f"data.augmentation.scale={list(self.scale)} must be two rising numbers above 0")
        if problems:
            raise ConfigError("; ".join(problems))

    def __call__(
        self, volume: FloatArray, rng: np.random.Generator, *, padding: float, left_right: int | None
    ) -> FloatArray:
        """Augment one volume.

        Args:
            volume: [D, H, W], normalised; it is not written into.
            rng: of this draw.
            padding: value of what lies outside the volume.
            left_right: the grid's axis from one side of the patient to the other; None where it is not known, and
                then nothing is mirrored.

        Returns:
            [D, H, W] float32.
        """
        # Every number is drawn in every case, so that switching one change off leaves the others as they were.
        u = rng.random(8)
        signed = 2 * u - 1
        out = torch.tensor(np.asarray(volume, np.float32))
        if u[0] < self.flip and left_right is not None:
            out = out.flip(left_right)
        out = _move_slices(out, round(signed[1] * self.shift_slices), padding)
        zoom = self.scale[0] * (self.scale[1] / self.scale[0]) ** u[2]
        angle, shift = np.deg2rad(self.rotate * signed[3]), 2 * self.shift * signed[4:6]
        if zoom != 1 or angle or shift.any():
            out = _move_in_plane(out, zoom, float(angle), shift, padding)
        out = out * float(1 + self.gain * signed[6]) + float(self.offset * signed[7])
        if self.noise:
            out = out + self.noise * torch.from_numpy(rng.standard_normal(tuple(out.shape), dtype=np.float32))
        return np.asarray(out.numpy(), np.float32)


def _move_slices(volume: torch.Tensor, count: int, padding: float) -> torch.Tensor:
    """Shift along the first axis by whole slices."""
    if count == 0:
        return volume
    moved = torch.full_like(volume, padding)
    if abs(count) < len(volume):
        moved[max(count, 0) : len(volume) + min(count, 0)] = volume[max(-count, 0) : len(volume) - max(count, 0)]
    return moved


def _move_in_plane(
    volume: torch.Tensor, zoom: float, angle: float, shift: NDArray[Any], padding: float
) -> torch.Tensor:
    """Turn, zoom and shift all slices alike, bilinearly; `shift` is in half sides (columns, rows)."""
    H, W = volume.shape[1:]
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    # From output to input, in units of half a side: turning must not shear where a slice is no square.
    theta = torch.tensor([[cosine, -sine * H / W, -shift[0]], [sine * W / H, cosine, -shift[1]]], dtype=torch.float32)
    grid = F.affine_grid(theta[None], [1, 1, H, W], align_corners=False)
    # What comes from outside is zero, so the padding is made zero.
    moved = F.grid_sample((volume - padding)[None], grid, align_corners=False)[0]
    return moved + padding
