"""Convert layer outputs to maps on the grid of the input, in 2D, 2.5D and 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from seewhy.errors import ConfigError

__all__ = ["arrange_by_sample", "enlarge", "join_slices", "number_patches", "to_grid"]

MODES = {2: "bilinear", 3: "trilinear"}
MOST_EXTRA = 16
"""Most leading tokens without a position: a class token, a distillation token, registers."""


def to_grid(activation: Tensor, image: Tensor) -> Tensor:
    """Reshape a layer's output to a grid [N, C, h, w] or [N, C, d, h, w].

    From tokens [N, L, C] the leading ones without a position (class token, registers) are dropped: the smallest
    number that leaves a grid with the proportions of the image. A grid with channels last, as windowed transformers
    return it, is recognised by its proportions, too.

    Args:
        activation: a layer's output or its gradient.
        image: [B, C, *spatial], the input.

    Raises:
        ConfigError: neither a grid nor tokens of a grid, or tokens that fit more than one grid.

    Example:
        >>> import torch
        >>> from seewhy.explain.grid import to_grid
        >>> to_grid(torch.zeros(2, 1 + 4 * 6, 8), torch.zeros(2, 3, 64, 96)).shape  # a class token and 4 x 6 patches
        torch.Size([2, 8, 4, 6])
    """
    if activation.ndim in (4, 5):
        return _move_channels_first(activation, image)
    shapes = _token_grids(activation.shape[1], image) if activation.ndim == 3 else []
    if len(shapes) == 1:
        tokens = activation[:, activation.shape[1] - _product(shapes[0]) :]
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *shapes[0])
    shape = f"the layer returns {tuple(activation.shape)} for an image of {tuple(image.shape[2:])}"
    if shapes:
        raise ConfigError(f"{shape}; this fits any of {shapes}: choose one with reshape=…")
    raise ConfigError(
        f"{shape}; expected a grid [B, C, h, w] or [B, C, d, h, w], or tokens [B, L, C] of a grid with the image's "
        "proportions; choose another layer, or define the grid with reshape=…"
    )


def _move_channels_first(grid: Tensor, image: Tensor) -> Tensor:
    """Move the last axis to the second if only the axes in between have the image's proportions."""
    size = image.shape[max(2, image.ndim - (grid.ndim - 2)) :]  # a planar grid of a volume has the size of a slice
    first = len(size) != grid.ndim - 2 or _proportionate(grid.shape[2:], size)
    return grid if first or not _proportionate(grid.shape[1:-1], size) else grid.movedim(-1, 1)


def _proportionate(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether the grid can be the image at one stride, each side rounded."""
    stride = max(whole / side for whole, side in zip(size, grid, strict=True))
    return all(abs(whole / stride - side) <= 1 for whole, side in zip(size, grid, strict=True))


def _token_grids(count: int, image: Tensor) -> list[tuple[int, ...]]:
    """List the grid sizes that fit a number of tokens, for the whole image or for a slice of a volume."""
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
    """Join grids [B · D, C, h, w] of a volume's slices to one grid [B, C, D, h, w]; return other grids unchanged."""
    batch, slices = len(image), image.shape[2]
    if image.ndim == 5 and grid.ndim == 4 and len(grid) == batch * slices:
        return grid.unflatten(0, (batch, slices)).transpose(1, 2)
    return grid


def arrange_by_sample(coarse: Tensor, image: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Arrange coarse maps as one map per sample.

    Args:
        coarse: [N, h, w] or [N, d, h, w]; N is B, or B × D if the network processes each slice of a volume alone.
        image: [B, C, *spatial].

    Returns:
        Maps [B, h, w] or [B, d, h, w], or [B, 1, h, w] if the network reduces a volume to one plane; and notes for the
        reader.

    Raises:
        ConfigError: a number of maps that does not fit the samples, or more axes than the image has.
    """
    batch, spatial, axes = len(image), image.ndim - 2, coarse.ndim - 1
    if len(coarse) == batch and axes == spatial:
        return coarse, ()
    if (axes, spatial) == (2, 3) and len(coarse) == batch * image.shape[2]:
        return coarse.unflatten(0, (batch, image.shape[2])), ()
    if (axes, spatial) == (2, 3) and len(coarse) == batch:
        return coarse[:, None], ("one map for all slices",)
    raise ConfigError(
        f"the layer returns {len(coarse)} maps of {tuple(coarse.shape[1:])} for {batch} inputs of "
        f"{tuple(image.shape[2:])}; choose a layer with one map for each input (or for each slice of a volume)"
    )


def enlarge(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps [B, *s], linear between cell centres."""
    if tuple(coarse.shape[1:]) == tuple(size):
        return coarse
    # Maps of slices, or one map for all slices: do not interpolate between slices; planes are also faster.
    if len(size) == 3 and coarse.shape[1] in (1, size[0]):
        planes = enlarge(coarse.flatten(0, 1), size[1:]).unflatten(0, coarse.shape[:2])
        return planes.expand(-1, size[0], -1, -1).contiguous()
    return interpolate(coarse[:, None], size=tuple(size), mode=MODES[len(size)], align_corners=False)[:, 0]


def number_patches(image: Tensor, side: int) -> Tensor:
    """Return the patch number of each voxel, [1, C, *spatial], the same for all channels."""
    number = torch.zeros(image.shape[2:], dtype=torch.long, device=image.device)
    for axis, size in enumerate(image.shape[2:]):
        steps = torch.arange(size, device=image.device) // side
        number = number * (-(-size // side)) + steps.reshape(-1, *[1] * (image.ndim - 3 - axis))
    return number.expand(1, *image.shape[1:]).contiguous()
