"""The same batch with other images: what an explainer is called with again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.explained_model import Inputs
from seewhy.explain.judging.smoothing import smooth

__all__ = ["Fill", "filled", "first_rows", "generators", "with_images"]

Fill = Literal["blur", "mean", "zero"]
"""What "removed" looks like: the image itself smoothed until only its coarse layout is left, its mean, or 0."""

BLUR = 0.1
"""Standard deviation of the blur, as a share of each side: structures up to a fifth of the image vanish."""


def with_images(inputs: Inputs, images: Mapping[str, Tensor]) -> Inputs:
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


def generators(images: Mapping[str, Tensor], *, seed: int) -> list[torch.Generator]:
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


def first_rows(inputs: Inputs, count: int) -> Inputs:
    """The first `count` samples of a batch."""
    if isinstance(inputs, Tensor):
        return inputs[:count]
    if isinstance(inputs, Mapping):
        return {name: one[:count] for name, one in inputs.items()}
    return tuple(one[:count] for one in inputs)


def filled(image: Tensor, fill: Fill) -> Tensor:
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
