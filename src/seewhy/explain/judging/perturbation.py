"""Gaussian smoothing of maps and images of any dimension, and how smooth a map is.

The same batch with other images: what an explainer is called with again.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.explained_model import Inputs

__all__ = [
    "Fill",
    "draw_noise_like",
    "estimate_smoothness",
    "fill_image",
    "make_generators",
    "replace_images",
    "smooth",
    "take_first",
]

Fill = Literal["blur", "mean", "zero"]
"""What "removed" looks like: the image itself smoothed until only its coarse layout is left, its mean, or 0."""

BLUR = 0.1
"""Standard deviation of the blur, as a share of each side: structures up to a fifth of the image vanish."""


def replace_images(inputs: Inputs, images: Mapping[str, Tensor]) -> Inputs:
    """The inputs with some images replaced, in the form they were given.

    Args:
        inputs: as an explainer takes them.
        images: input name → image, named as in the maps; others stay as they are.
    """
    if isinstance(inputs, Tensor):
        return images.get("image", inputs)
    if isinstance(inputs, Mapping):
        return {**inputs, **images}
    return tuple(images.get(f"input_{position}", image) for position, image in enumerate(inputs))


def make_generators(images: Mapping[str, Tensor], *, seed: int) -> list[torch.Generator]:
    """A random generator for each sample, of its images' content and a seed.

    So what is drawn for a sample depends neither on its batch nor on its place there, and different samples' draws
    are independent, which makes their errors average out over a data set.

    Args:
        images: input name → [B, ...].
        seed: of all samples.
    """
    arrays = [image.detach().float().cpu().contiguous().numpy() for image in images.values()]
    found = []
    for row in range(len(arrays[0])):
        content = seed & 0xFFFFFFFF
        for array in arrays:
            content = zlib.crc32(array[row].tobytes(), content)
        found.append(torch.Generator().manual_seed(content))
    return found


def take_first(inputs: Inputs, count: int) -> Inputs:
    """The first `count` samples of a batch."""
    if isinstance(inputs, Tensor):
        return inputs[:count]
    if isinstance(inputs, Mapping):
        return {name: one[:count] for name, one in inputs.items()}
    return tuple(one[:count] for one in inputs)


def fill_image(image: Tensor, fill: Fill) -> Tensor:
    """An image of which everything is removed.

    Args:
        image: [B, C, *spatial].
        fill: what takes its place; mean and blur are of each sample and channel.

    Returns:
        [B, C, *spatial] in the image's type.

    Raises:
        ConfigError: no such fill.
    """
    if fill == "zero":
        return torch.zeros_like(image)
    if fill == "mean":
        return image.mean(dim=tuple(range(2, image.ndim)), keepdim=True).expand_as(image).clone()
    if fill == "blur":
        planes = image.flatten(0, 1)
        sigma = BLUR * torch.tensor(planes.shape[1:], dtype=torch.float32)
        return smooth(planes, sigma.to(image.device)).to(image.dtype).reshape(image.shape)
    raise ConfigError(f"fill={fill!r} is unknown; {nearest(str(fill), get_args(Fill))}")


def smooth(images: Tensor, sigma: Tensor | float) -> Tensor:
    """Gaussian smoothing along all axes but the first, with mirrored edges.

    Args:
        images: [N, *s].
        sigma: standard deviation in pixels, of all, or [N, axes] of each sample and axis; 0 changes nothing.

    Returns:
        [N, *s] float32.
    """
    result = images.float()
    axes = images.ndim - 1
    widths = torch.as_tensor(sigma, dtype=torch.float32, device=images.device).expand(len(images), axes)
    for axis in range(1, images.ndim):
        size = images.shape[axis]
        if size == 1:
            continue
        # The even continuation of period 2n makes the circular product of spectra one with mirrored edges; one
        # axis at a time keeps volumes small, and the spectrum serves any width at one cost.
        wave = torch.fft.rfftfreq(2 * size, device=images.device)
        gain = torch.exp(-2 * (math.pi * wave * widths[:, axis - 1, None]) ** 2)
        gain = gain.reshape(len(images), *[1] * (axis - 1), -1, *[1] * (axes - axis))
        spectrum = torch.fft.rfft(torch.cat([result, result.flip(axis)], dim=axis), dim=axis)
        result = torch.fft.irfft(spectrum * gain, n=2 * size, dim=axis).narrow(axis, 0, size)
    return result


def estimate_smoothness(maps: Tensor) -> Tensor:
    """Standard deviation of the Gaussian that makes white noise as smooth as a map, in pixels per axis.

    Neighbours in smoothed white noise correlate by r = exp(-1 / 4σ²), hence σ = (-4 ln r)^-1/2 (the roughness of
    a random field: Kiebel 1999, equation 2).

    Args:
        maps: [N, *s].

    Returns:
        [N, axes]; 0 where neighbours do not correlate, or the map has a single value.
    """
    centred = maps.double()
    centred = centred - centred.flatten(1).mean(dim=1).reshape(-1, *[1] * (maps.ndim - 1))
    found = []
    for axis in range(1, maps.ndim):
        size = maps.shape[axis]
        if size == 1:
            found.append(torch.zeros(len(maps), dtype=torch.float64, device=maps.device))
            continue
        a, b = centred.narrow(axis, 0, size - 1).flatten(1), centred.narrow(axis, 1, size - 1).flatten(1)
        scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
        r = (a * b).sum(dim=1) / scale.clamp_min(1e-300)
        sigma = (-4 * r.clamp(1e-6, 1 - 1e-9).log()).rsqrt()
        found.append(torch.where((r > 0) & (scale > 0), sigma.clamp_max(size / 2), 0.0))
    return torch.stack(found, dim=1)


def draw_noise_like(maps: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """White noise smoothed to the maps' own smoothness, each sample with mean 0 and deviation 1.

    Args:
        maps: [N, *s].
        generators: one per sample, of the CPU, so that all devices get the same noise.
    """
    white = torch.stack([torch.randn(maps.shape[1:], generator=one) for one in generators]).to(maps.device)
    blurred = smooth(white, estimate_smoothness(maps).float()).flatten(1)
    blurred = blurred - blurred.mean(dim=1, keepdim=True)
    return (blurred / blurred.std(dim=1, keepdim=True).clamp_min(1e-12)).reshape(maps.shape)
