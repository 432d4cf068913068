"""From a layer's output to maps on the input's grid, in 2D, 2.5D and 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from seewhy.errors import ConfigError

__all__ = ["arrange_by_sample", "enlarge", "join_slices", "to_grid"]

MODES = {2: "bilinear", 3: "trilinear"}
MOST_EXTRA = 16
"""Leading tokens that stand for no place: a class token, a distillation token, registers."""


def to_grid(activation: Tensor, image: Tensor) -> Tensor:
    """A layer's output as a grid [N, C, h, w] or [N, C, d, h, w].

    Of tokens [N, L, C] the leading ones that stand for no place (class, registers) are dropped: as few as make a
    grid of the image's proportions. A grid with its channels last, as windowed transformers give it, is told by its
    proportions too.

    Args:
        activation: a layer's output or its gradient.
        image: [B, C, *spatial], the input.

    Raises:
        ConfigError: neither a grid nor tokens of one, or tokens of which more than one grid can be made.
    """
    if activation.ndim in (4, 5):
        return _channels_first(activation, image)
    shapes = _token_grids(activation.shape[1], image) if activation.ndim == 3 else []
    if len(shapes) == 1:
        tokens = activation[:, activation.shape[1] - _product(shapes[0]) :]
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *shapes[0])
    found = f"the layer gives {tuple(activation.shape)} for an image of {tuple(image.shape[2:])}"
    if shapes:
        raise ConfigError(f"{found}; that may be any of {shapes}: say which by reshape=…")
    raise ConfigError(
        f"{found}; expected a grid [B, C, h, w] or [B, C, d, h, w], or tokens [B, L, C] of one in the image's "
        "proportions; choose another layer, or say by reshape=… how the grid is made"
    )


def _channels_first(grid: Tensor, image: Tensor) -> Tensor:
    """Channels as the second axis, also where only the axes between first and last are in the image's proportions."""
    size = image.shape[max(2, image.ndim - (grid.ndim - 2)) :]  # of a volume's plane, where the grid is one
    first = len(size) != grid.ndim - 2 or _proportionate(grid.shape[2:], size)
    return grid if first or not _proportionate(grid.shape[1:-1], size) else grid.movedim(-1, 1)


def _proportionate(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a grid can be the image at one stride, each side rounded."""
    stride = max(whole / side for whole, side in zip(size, grid, strict=True))
    return all(abs(whole / stride - side) <= 1 for whole, side in zip(size, grid, strict=True))


def _token_grids(count: int, image: Tensor) -> list[tuple[int, ...]]:
    """Sizes of the grids that so many tokens can be laid out on: of the whole image, or of a plane of a volume."""
    sizes = [tuple(image.shape[2:])] if image.ndim == 4 else [tuple(image.shape[3:]), tuple(image.shape[2:])]
    grids = []
    for size in sizes:
        for extra in range(min(MOST_EXTRA + 1, count)):
            scale = ((count - extra) / _product(size)) ** (1 / len(size))
            grid = tuple(round(side * scale) for side in size)
            proportionate = all(side * size[0] == grid[0] * whole for side, whole in zip(grid, size, strict=True))
            if _product(grid) == count - extra and proportionate:
                grids.append(grid)
                break
    return grids


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())


def join_slices(grid: Tensor, image: Tensor) -> Tensor:
    """Grids [B · D, C, h, w] of a volume's slices as one grid of the volume, [B, C, D, h, w]; others as they are."""
    batch, slices = len(image), image.shape[2]
    if image.ndim == 5 and grid.ndim == 4 and len(grid) == batch * slices:
        return grid.unflatten(0, (batch, slices)).transpose(1, 2)
    return grid


def arrange_by_sample(coarse: Tensor, image: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Coarse maps as one map per sample, and what a reader must know of them.

    Args:
        coarse: [N, h, w] or [N, d, h, w]; N is B, or B × D where a network sees the slices of a volume singly.
        image: [B, C, *spatial].

    Returns:
        [B, h, w] or [B, d, h, w]; of a volume of which the network made a single plane, [B, 1, h, w].

    Raises:
        ConfigError: maps that are not of these samples, or of more axes than the image has.
    """
    batch, spatial, axes = len(image), image.ndim - 2, coarse.ndim - 1
    if len(coarse) == batch and axes == spatial:
        return coarse, ()
    if (axes, spatial) == (2, 3) and len(coarse) == batch * image.shape[2]:
        return coarse.unflatten(0, (batch, image.shape[2])), ()
    if (axes, spatial) == (2, 3) and len(coarse) == batch:
        return coarse[:, None], ("one map stands for all slices",)
    raise ConfigError(
        f"the layer gives {len(coarse)} maps of {tuple(coarse.shape[1:])} for {batch} inputs of "
        f"{tuple(image.shape[2:])}; choose a layer with one map for each (or for each slice of a volume)"
    )


def enlarge(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [B, *s] at another size, linear between cell centres."""
    if tuple(coarse.shape[1:]) == tuple(size):
        return coarse
    # Maps of slices, or one of all slices: nothing is to be mixed between them, and planes are faster.
    if len(size) == 3 and coarse.shape[1] in (1, size[0]):
        planes = enlarge(coarse.flatten(0, 1), size[1:]).unflatten(0, coarse.shape[:2])
        return planes.expand(-1, size[0], -1, -1).contiguous()
    return interpolate(coarse[:, None], size=tuple(size), mode=MODES[len(size)], align_corners=False)[:, 0]
