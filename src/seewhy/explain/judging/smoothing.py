"""Gaussian smoothing of maps and images of any dimension, and how smooth a map is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["noise_like", "smooth", "smoothness"]


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


def smoothness(maps: Tensor) -> Tensor:
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


def noise_like(maps: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """White noise smoothed to the maps' own smoothness, each sample with mean 0 and deviation 1.

    Args:
        maps: [N, *s].
        generators: one per sample, of the CPU, so that all devices get the same noise.
    """
    white = torch.stack([torch.randn(maps.shape[1:], generator=one) for one in generators]).to(maps.device)
    blurred = smooth(white, smoothness(maps).float()).flatten(1)
    blurred = blurred - blurred.mean(dim=1, keepdim=True)
    return (blurred / blurred.std(dim=1, keepdim=True).clamp_min(1e-12)).reshape(maps.shape)
