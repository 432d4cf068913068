"""Perturbed inputs: fills of removed pixels, smoothing, noise as smooth as a map, and generators per sample."""

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
    "hash_images",
    "make_generators",
    "replace_images",
    "smooth",
    "take_first",
]

Fill = Literal["blur", "mean", "zero", "black"]
"""Value of removed pixels: the image smoothed until only its coarse layout remains, its mean, 0, its lowest value."""

BLUR = 0.1
"""Standard deviation of the blur as a share of each side; it removes structures up to a fifth of the image."""


def replace_images(inputs: Inputs, images: Mapping[str, Tensor]) -> Inputs:
    """Replace images of the inputs; the result has the form of the inputs.

    Args:
        inputs: see `seewhy.explain.explained_model.Inputs`.
        images: input name → image, with the names of the maps; other inputs do not change.
    """
    if isinstance(inputs, Tensor):
        return images.get("image", inputs)
    if isinstance(inputs, Mapping):
        return {**inputs, **images}
    return tuple(images.get(f"input_{position}", image) for position, image in enumerate(inputs))


def make_generators(images: Mapping[str, Tensor], *, seed: int) -> list[torch.Generator]:
    """Make one random generator per sample, seeded by the content of its images and a seed.

    The draws of a sample do not depend on its batch or its position there, and draws of different samples are
    independent, so that their errors average out over a data set.

    Args:
        images: input name → [B, ...].
        seed: seed of all samples.
    """
    return [torch.Generator().manual_seed(content) for content in hash_images(images, seed=seed)]


def hash_images(images: Mapping[str, Tensor], *, seed: int = 0) -> list[int]:
    """Return a checksum of each sample's images.

    Args:
        images: input name → [B, ...].
        seed: where the checksums start.
    """
    arrays = [image.detach().float().cpu().contiguous().numpy() for image in images.values()]
    result = []
    for row in range(len(arrays[0])):
        content = seed & 0xFFFFFFFF
        for array in arrays:
            content = zlib.crc32(array[row].tobytes(), content)
        result.append(content)
    return result


def take_first(inputs: Inputs, count: int) -> Inputs:
    """Take the first `count` samples of a batch."""
    if isinstance(inputs, Tensor):
        return inputs[:count]
    if isinstance(inputs, Mapping):
        return {name: one[:count] for name, one in inputs.items()}
    return tuple(one[:count] for one in inputs)


def fill_image(image: Tensor, fill: Fill) -> Tensor:
    """Make the image in which everything is removed.

    Args:
        image: [B, C, *spatial].
        fill: see `Fill`; mean and blur are computed for each sample and channel, black for each sample.

    Returns:
        [B, C, *spatial] in the type of the image.

    Raises:
        ConfigError: an unknown fill.
    """
    if fill == "zero":
        return torch.zeros_like(image)
    if fill == "mean":
        return image.mean(dim=tuple(range(2, image.ndim)), keepdim=True).expand_as(image).clone()
    if fill == "black":
        return image.flatten(1).amin(dim=1).reshape(-1, *[1] * (image.ndim - 1)).expand_as(image).clone()
    if fill == "blur":
        planes = image.flatten(0, 1)
        sigma = BLUR * torch.tensor(planes.shape[1:], dtype=torch.float32)
        return smooth(planes, sigma.to(image.device)).to(image.dtype).reshape(image.shape)
    raise ConfigError(f"fill={fill!r} is unknown; {nearest(str(fill), get_args(Fill))}")


def smooth(images: Tensor, sigma: Tensor | float) -> Tensor:
    """Smooth by a Gaussian along all axes except the first, with mirrored edges.

    Args:
        images: [N, *s].
        sigma: standard deviation in pixels, for all, or [N, axes] for each sample and axis; 0 changes nothing.

    Returns:
        [N, *s] float32.

    Example:
        >>> import torch
        >>> from seewhy.explain.judging.perturbation import smooth
        >>> image = torch.zeros(1, 5)
        >>> image[0, 2] = 1
        >>> smooth(image, 1.0).round(decimals=2)
        tensor([[0.0600, 0.2400, 0.4000, 0.2400, 0.0600]])
    """
    widths = torch.as_tensor(sigma, dtype=torch.float32, device=images.device).expand(len(images), images.ndim - 1)
    if not len(images):
        return images.float()
    # One image at a time: the last bits of a batched Fourier transform depend on the batch on some processors.
    return torch.stack([_smooth_image(image, width) for image, width in zip(images.float(), widths, strict=True)])


def _smooth_image(image: Tensor, widths: Tensor) -> Tensor:
    """Smooth one image [*s] by a standard deviation per axis."""
    for axis, size in enumerate(image.shape):
        if size == 1:
            continue
        # With the even continuation of period 2n, the circular convolution has mirrored edges. One axis at a time
        # saves memory, and the cost does not depend on the width.
        wave = torch.fft.rfftfreq(2 * size, device=image.device)
        gain = torch.exp(-2 * (math.pi * wave * widths[axis]) ** 2).reshape(-1, *[1] * (image.ndim - 1 - axis))
        spectrum = torch.fft.rfft(torch.cat([image, image.flip(axis)], dim=axis), dim=axis)
        image = torch.fft.irfft(spectrum * gain, n=2 * size, dim=axis).narrow(axis, 0, size)
    return image


def estimate_smoothness(maps: Tensor) -> Tensor:
    """Estimate the standard deviation of the Gaussian that makes white noise as smooth as a map, in pixels per axis.

    Neighbours in smoothed white noise correlate by r = exp(-1 / 4σ²), hence σ = (-4 ln r)^-1/2 (the roughness of
    a random field: Kiebel 1999, equation 2).

    Args:
        maps: [N, *s].

    Returns:
        [N, axes]; 0 if neighbours do not correlate, or the map is constant.
    """
    centred = maps.double()
    centred = centred - centred.flatten(1).mean(dim=1).reshape(-1, *[1] * (maps.ndim - 1))
    result = []
    for axis in range(1, maps.ndim):
        size = maps.shape[axis]
        if size == 1:
            result.append(torch.zeros(len(maps), dtype=torch.float64, device=maps.device))
            continue
        a, b = centred.narrow(axis, 0, size - 1).flatten(1), centred.narrow(axis, 1, size - 1).flatten(1)
        scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
        r = (a * b).sum(dim=1) / scale.clamp_min(1e-300)
        sigma = (-4 * r.clamp(1e-6, 1 - 1e-9).log()).rsqrt()
        result.append(torch.where((r > 0) & (scale > 0), sigma.clamp_max(size / 2), 0.0))
    return torch.stack(result, dim=1)


def draw_noise_like(maps: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw white noise and smooth it like the maps, with mean 0 and standard deviation 1 per sample.

    Args:
        maps: [N, *s].
        generators: one CPU generator per sample, so that all devices get the same noise.
    """
    white = torch.stack([torch.randn(maps.shape[1:], generator=one) for one in generators]).to(maps.device)
    blurred = smooth(white, estimate_smoothness(maps).float()).flatten(1)
    blurred = blurred - blurred.mean(dim=1, keepdim=True)
    return (blurred / blurred.std(dim=1, keepdim=True).clamp_min(1e-12)).reshape(maps.shape)
