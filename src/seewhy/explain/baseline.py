"""Baseline images: the reference of attributions, and the fill of occluded regions."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from seewhy.errors import ConfigError, nearest

__all__ = ["Baseline", "check_baseline", "describe_baseline", "make_baseline"]

Baseline: TypeAlias = str | float
"""A name in `DESCRIPTIONS`, or a number in the units of the normalised image."""

DESCRIPTIONS = {
    "zero": "zero in the units of the normalised image",
    "mean": "the mean of each image and channel",
    "minimum": "the lowest value of each image and channel",
    "blur": "the image itself, blurred by a Gaussian whose standard deviation is a tenth of each side",
}
BLUR = 0.1


def check_baseline(baseline: Baseline) -> Baseline:
    """Return the baseline if it is valid.

    Raises:
        ConfigError: an unknown name.
    """
    if isinstance(baseline, str) and baseline not in DESCRIPTIONS:
        raise ConfigError(f"unknown baseline {baseline!r}; {nearest(baseline, DESCRIPTIONS)}, or a number")
    return baseline


def describe_baseline(baseline: Baseline) -> str:
    """Describe a baseline for captions and tables."""
    return DESCRIPTIONS[baseline] if isinstance(baseline, str) else f"the number {float(baseline):g}"


def make_baseline(image: Tensor, baseline: Baseline) -> Tensor:
    """Make the baseline image, in the shape of `image` [B, C, *spatial].

    Example:
        >>> import torch
        >>> from seewhy.explain.baseline import make_baseline
        >>> make_baseline(torch.tensor([[[[1.0, 3.0]]]]), "mean")
        tensor([[[[2., 2.]]]])
    """
    axes = tuple(range(2, image.ndim))
    if baseline == "zero":
        return torch.zeros_like(image)
    if baseline == "mean":
        return image.mean(dim=axes, keepdim=True).expand_as(image)
    if baseline == "minimum":
        return image.amin(dim=axes, keepdim=True).expand_as(image)
    if baseline == "blur":
        for axis in range(2, image.ndim):
            image = _blur_along(image, axis)
        return image
    return torch.full_like(image, float(baseline))


def _blur_along(image: Tensor, axis: int) -> Tensor:
    """Convolve one axis with a Gaussian; edges are repeated."""
    sigma = BLUR * image.shape[axis]
    reach = max(round(3 * sigma), 1)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    last = image.movedim(axis, -1)
    lines = pad(last.reshape(1, -1, last.shape[-1]), (reach, reach), mode="replicate")
    kernel = (weights / weights.sum())[None, None]
    blurred = torch.nn.functional.conv1d(lines.transpose(0, 1), kernel)
    return blurred.reshape(last.shape).movedim(-1, axis)
