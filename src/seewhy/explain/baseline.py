"""What "absent" means: the image that attributions are counted from, and that hides what is hidden."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from seewhy.errors import ConfigError, nearest

__all__ = ["Baseline", "check_baseline", "describe_baseline", "make_baseline"]

Baseline: TypeAlias = "str | float"
"""A name of `WORDS`, or a number in the units of the normalised image."""

WORDS = {
    "zero": "zero in the units of the normalised image",
    "mean": "the mean of each image and channel",
    "minimum": "the lowest value of each image and channel",
    "blur": "the image itself, blurred by a Gaussian whose standard deviation is a tenth of each side",
}
BLUR = 0.1


def check_baseline(baseline: Baseline) -> Baseline:
    """The same, if there is such a baseline.

    Raises:
        ConfigError: there is none of that name.
    """
    if isinstance(baseline, str) and baseline not in WORDS:
        raise ConfigError(f"no baseline {baseline!r}; {nearest(baseline, WORDS)}, or a number")
    return baseline


def describe_baseline(baseline: Baseline) -> str:
    """A baseline in words."""
    return WORDS[baseline] if isinstance(baseline, str) else f"the number {float(baseline):g}"


def make_baseline(image: Tensor, baseline: Baseline) -> Tensor:
    """The image that stands for "absent", of the shape of `image` [B, C, *spatial]."""
    axes = tuple(range(2, image.ndim))
    if baseline == "zero":
        return torch.zeros_like(image)
    if baseline == "mean":
        return image.mean(dim=axes, keepdim=True).expand_as(image)
    if baseline == "minimum":
        return image.amin(dim=axes, keepdim=True).expand_as(image)
    if baseline == "blur":
        return _blurred(image)
    return torch.full_like(image, float(baseline))


def _blurred(image: Tensor) -> Tensor:
    """A Gaussian along each spatial axis in turn, edges repeated."""
    for axis in range(2, image.ndim):
        image = _blurred_along(image, axis)
    return image


def _blurred_along(image: Tensor, axis: int) -> Tensor:
    sigma = BLUR * image.shape[axis]
    reach = max(round(3 * sigma), 1)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    last = image.movedim(axis, -1)
    lines = pad(last.reshape(1, -1, last.shape[-1]), (reach, reach), mode="replicate")
    kernel = (weights / weights.sum())[None, None]
    found = torch.nn.functional.conv1d(lines.transpose(0, 1), kernel)
    return found.reshape(last.shape).movedim(-1, axis)
