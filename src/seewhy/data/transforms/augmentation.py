"""Training augmentation of planes, volumes and patches, repeatable from the number of the draw alone.

Every class is a set of options and a call. All random numbers of a call come from the generator or seed passed to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.options import call_with_options

__all__ = ["Augmentation", "PatchAugmentation", "VolumeAugmentation", "build_augmentation", "center_crop"]

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
        seewhy.errors.ConfigError: data.augmentation.shift=3 must lie in 0..1; data.augmentation.scale=[2, 0.5] must be
        two rising numbers above 0
    """
    if options is None:
        return None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return call_with_options(kind, values, "data.augmentation")


def _check(options: object, *, shares: Sequence[str], positive: Sequence[str], ranges: Sequence[str]) -> None:
    """Check options that are shares in 0..1, not negative, or ranges of two rising numbers above 0.

    Raises:
        ConfigError: all that are out of range.
    """
    values = vars(options)
    problems = [f"{name}={values[name]} must lie in 0..1" for name in shares if not 0 <= values[name] <= 1]
    problems += [f"{name}={values[name]} must not be negative" for name in positive if values[name] < 0]
    problems += [
        f"{name}={list(values[name])} must be two rising numbers above 0"
        for name in ranges
        if len(values[name]) != 2 or not 0 < values[name][0] <= values[name][1]
    ]
    if problems:
        raise ConfigError("; ".join(f"data.augmentation.{problem}" for problem in problems))


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

    flip: float = 0.5
    flip_vertical: float = 0.0
    shift: float = 0.06
    scale: tuple[float, float] = (0.85, 1.2)
    gain: float = 0.1
    offset: float = 0.1
    noise: float = 0.0
    rotate: float = 0.0
    hide: float = 0.0
    hide_size: int = 12

    def __post_init__(self) -> None:
        _check(
            self,
            shares=("flip", "flip_vertical", "shift", "gain", "hide"),
            positive=("offset", "noise", "rotate"),
            ranges=("scale",),
        )
        if self.rotate > 180:
            raise ConfigError(f"data.augmentation.rotate={self.rotate} must lie in 0..180 degrees")
        if self.hide_size < 1:
            raise ConfigError(f"data.augmentation.hide_size={self.hide_size} must be at least 1 pixel")

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

    flip: float = 0.0
    shift: float = 0.03
    shift_slices: int = 2
    rotate: float = 5.0
    scale: tuple[float, float] = (0.95, 1.05)
    gain: float = 0.1
    offset: float = 0.1
    noise: float = 0.0

    def __post_init__(self) -> None:
        positive = ("shift_slices", "rotate", "offset", "noise")
        _check(self, shares=("flip", "shift", "gain"), positive=positive, ranges=("scale",))

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


@dataclass(frozen=True, kw_only=True)
class PatchAugmentation:
    """Random changes of a 3D patch and its labels by MONAI; options with `_probability` apply to that share of patches.

    Attributes:
        flip: probability of mirroring, for each of the three axes separately.
        rotate90: probability of quarter turns within slices.
        affine: probability of rotating and zooming.
        rotate: largest rotation in degrees, about each of the axes z, y, x.
        scale: range of the zoom.
        noise_probability: of added Gaussian noise.
        noise: its largest standard deviation, in normalised units.
        blur_probability: of smoothing.
        blur: range of its width in voxels.
        brightness_probability: of another factor and offset.
        gain: largest relative change of the intensities.
        offset: largest change added to them, in normalised units.
        gamma_probability: of another gamma curve.
        gamma: range of the exponent.

    Raises:
        ConfigError: values out of range.
    """

    flip: float = 0.5
    rotate90: float = 0.0
    affine: float = 0.2
    rotate: Sequence[float] = (15.0, 15.0, 15.0)
    scale: Sequence[float] = (0.8, 1.25)
    noise_probability: float = 0.1
    noise: float = 0.1
    blur_probability: float = 0.1
    blur: Sequence[float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    gain: float = 0.25
    offset: float = 0.1
    gamma_probability: float = 0.1
    gamma: Sequence[float] = (0.7, 1.5)

    def __post_init__(self) -> None:
        shares = ["flip", "rotate90", "affine", *(name for name in vars(self) if name.endswith("_probability"))]
        _check(self, shares=shares, positive=("noise", "gain", "offset"), ranges=("scale", "blur", "gamma"))
        if len(self.rotate) != 3 or min(self.rotate) < 0:
            raise ConfigError(f"data.augmentation.rotate={list(self.rotate)} must be three angles, not negative")

    def __call__(self, image: Tensor, mask: Tensor, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return an augmented copy.

        Args:
            image: [C, z, y, x] float32, normalised.
            mask: [z, y, x] uint8.
            seed: numbers that all draws depend on.
        """
        state = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        self._chain.set_random_state(seed=state)
        result = self._chain({"image": image, "mask": mask[None]})
        return _without_metadata(result["image"]), _without_metadata(result["mask"])[0].to(torch.uint8)

    @cached_property
    def _chain(self) -> Any:
        """The transforms of MONAI; those with probability 0 are left out."""
        from monai import transforms  # slow to import, and only volumes need it

        both = ("image", "mask")
        angles = [float(np.deg2rad(angle)) for angle in self.rotate]
        zoom = (self.scale[0] - 1, self.scale[1] - 1)
        blur = dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), tuple(self.blur))
        brightness, gamma, noise = self.brightness_probability, self.gamma_probability, self.noise_probability
        chain: list[tuple[float, Any]] = [
            *((self.flip, transforms.RandFlipd(both, prob=self.flip, spatial_axis=axis)) for axis in range(3)),
            (self.rotate90, transforms.RandRotate90d(both, prob=self.rotate90, spatial_axes=(1, 2))),
            (
                self.affine,
                transforms.RandAffined(
                    both, prob=self.affine, rotate_range=angles, scale_range=[zoom] * 3, mode=("bilinear", "nearest"),
                    padding_mode="reflection",
                ),
            ),
            (self.blur_probability, transforms.RandGaussianSmoothd("image", prob=self.blur_probability, **blur)),
            (brightness, transforms.RandScaleIntensityd("image", factors=self.gain, prob=brightness)),
            (brightness, transforms.RandShiftIntensityd("image", offsets=self.offset, prob=brightness)),
            (
                gamma,
                transforms.RandAdjustContrastd("image", prob=gamma, gamma=tuple(self.gamma), retain_stats=True),
            ),
            (noise, transforms.RandGaussianNoised("image", prob=noise, std=self.noise)),
        ]  # fmt: skip
        return transforms.Compose([transform for probability, transform in chain if probability > 0])


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


def _without_metadata(tensor: Tensor) -> Tensor:
    """Drop MONAI's metadata, which batches and workers would carry along."""
    from monai.data import MetaTensor

    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).contiguous()
