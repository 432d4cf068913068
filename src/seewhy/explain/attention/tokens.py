"""Where tokens lie in the image, and which of them the scores are read from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.capture.attention import AttentionBlock
from seewhy.explain.capture.function_tracer import Run

__all__ = ["Query", "Tokens", "check_query", "check_square", "find_tokens", "read_row"]

MOST_EXTRA = 2
"""A class and a distillation token; of more leading tokens the network itself must tell, or the grid be given.

With more, any number of tokens would make some grid, also where they are no places but channels."""

Query: TypeAlias = "Literal['auto', 'class', 'mean'] | Sequence[float]"
"""Whose weights are shown: the class token's, the mean over all places', or those of one place of the image, as
pixels (y, x) or (z, y, x); auto is the class token where the network is known to read its scores from one, else the
mean."""


@dataclass(frozen=True)
class Tokens:
    """How a sequence of tokens is laid out.

    Attributes:
        prefix: leading tokens that stand for no place: class, distillation, registers.
        grid: size of the grid that the others make, row by row.
        class_token: whether the first token is one that gathers for the scores.
    """

    prefix: int
    grid: tuple[int, ...]
    class_token: bool


def find_tokens(count: int, block: AttentionBlock, image: Tensor, grid: Sequence[int] | None = None) -> Tokens:
    """The layout of so many tokens.

    The number of leading tokens is the network's own `num_prefix_tokens` where it has one. The grid is the given
    one, or one that a convolution or pooling before has given, or one in the image's proportions.

    Args:
        count: N or M.
        block: where they are tokens.
        image: [B, C, *spatial], the input.
        grid: of the tokens.

    Raises:
        ConfigError: the tokens make no such grid.
    """
    known, class_token = _told(block.run)
    if grid is not None:
        sizes, extras = [tuple(grid)], range(count)
    else:
        extras = range(MOST_EXTRA + 1) if known is None else range(known, known + 1)
        sizes = [*block.run.grids[::-1], *_proportionate(count, extras, block, image)]
    for extra in extras:
        for size in sizes:
            if math.prod(size) == count - extra > 1:
                return Tokens(extra, size, extra > 0 and class_token)
    leading = f", {known} of them leading ones," if known else ""
    wanted = f"grid {list(grid)}" if grid is not None else f"known grid of an image of {tuple(image.shape[2:])}"
    raise ConfigError(
        f"{block.name}: {count} tokens{leading} make no {wanted}; say the right one by grid=[…], or choose other blocks"
    )


def _proportionate(count: int, extras: Sequence[int], block: AttentionBlock, image: Tensor) -> list[tuple[int, ...]]:
    """Grids in the image's proportions that so many tokens may make; of slices that are seen singly, planar ones."""
    spatial = image.shape[2:] if len(block.weights) == len(image) else image.shape[-2:]
    grids = []
    for extra in extras:
        scale = (max(count - extra, 1) / math.prod(spatial)) ** (1 / len(spatial))
        size = tuple(round(side * scale) for side in spatial)
        if all(side * spatial[0] == size[0] * whole for side, whole in zip(size, spatial, strict=True)):
            grids.append(size)
    return grids


def _told(run: Run) -> tuple[int | None, bool]:
    """What the network says: how many leading tokens, and whether its scores are read from the first of them.

    Of a network whose forward does not run, only its parts, it is not known what its tokens are used for.
    """
    for part in reversed(run.around):
        count = getattr(part, "num_prefix_tokens", None)
        if isinstance(count, int) and hasattr(part, "cls_token"):
            pools = getattr(part, "global_pool", "token") in ("token", "")
            return count, pools and part.cls_token is not None and part in run.running
        if isinstance(registers := getattr(part, "num_register_tokens", None), int):  # DINOv2's own code
            return 1 + registers, True
    return None, True


def check_query(query: Query) -> Query:
    """The query, if it is one.

    Raises:
        ConfigError: neither a word nor a place.
    """
    place = not isinstance(query, str) and len(query) in (2, 3)
    if not place and query not in ("auto", "class", "mean"):
        raise ConfigError(f"query={query!r}; expected auto, class, mean, or a pixel [y, x] or [z, y, x]")
    return query


def check_square(block: AttentionBlock, image: Tensor, tokens: int | None, method: str) -> None:
    """Refuse a block whose queries and keys are not the same tokens as in the blocks before.

    Args:
        block: as it was captured.
        image: [B, C, *spatial], the input.
        tokens: N of the blocks before; None at the first.
        method: name of the method that refuses.

    Raises:
        ExplanationError: weights of this block cannot be multiplied with those of others.
    """
    _check_whole(block, image)
    queries, keys = block.weights.shape[2:]
    if queries == keys and tokens in (None, queries):
        return
    others = "" if queries != keys else f", the blocks before it {tokens} by {tokens}"
    raise ExplanationError(
        f"{method} multiplies the weights of blocks, but {block.name} has {queries} by {keys} of them (queries by "
        f"keys){others}: these are not the same tokens; take attention, which shows one block, or grad_cam, or name "
        "by modules=[…] blocks with the same tokens"
    )


def read_row(
    matrix: Tensor, block: AttentionBlock, image: Tensor, query: Query, *, grid: Sequence[int] | None = None
) -> tuple[Tensor, str]:
    """One row of a matrix, or the mean of several, on the grid of the keys.

    Args:
        matrix: [n, N, M].
        block: whose tokens they are.
        image: [B, C, *spatial], the input.
        query: see `Query`.
        grid: of the queries' tokens; None is found, see `tokens_of`.

    Returns:
        [n, *grid], and in words whose weights they are.

    Raises:
        ConfigError: no class token, or a place that is none.
        ExplanationError: the tokens are not those of whole images.
    """
    _check_whole(block, image)
    count, keys = matrix.shape[1:]
    own = find_tokens(count, block, image, grid) if count > 1 else Tokens(1, (), True)
    other = own if keys == count else find_tokens(keys, block, image)
    row, whose = _row(matrix, own, query, image, block.name)
    return row[:, other.prefix :].unflatten(1, other.grid), whose


def _row(matrix: Tensor, tokens: Tokens, query: Query, image: Tensor, name: str) -> tuple[Tensor, str]:
    if matrix.shape[1] == 1 and isinstance(query, str):
        return matrix[:, 0], "of the only query"
    if isinstance(query, str):
        if query == "class" and not tokens.prefix:
            raise ConfigError(
                f"query=class, but {name} has no leading token: {matrix.shape[1]} tokens, all of them places"
            )
        if query == "class" or (query == "auto" and tokens.class_token):
            return matrix[:, 0], "of the class token"
        return matrix[:, tokens.prefix :].mean(dim=1), "mean over all places"
    size = image.shape[2:]
    wanted = list(query)[-len(tokens.grid) :] if len(query) == len(size) else []
    sides = size[-len(wanted) :] if wanted else ()
    if len(wanted) != len(tokens.grid) or not all(0 <= at < side for at, side in zip(wanted, sides, strict=True)):
        raise ConfigError(f"query={list(query)} is no place of an image of {tuple(size)} in {name}")
    place = [int(at * cells / side) for at, cells, side in zip(wanted, tokens.grid, sides, strict=True)]
    number = tokens.prefix
    for at, step in zip(place, [math.prod(tokens.grid[axis + 1 :]) for axis in range(len(place))], strict=True):
        number += at * step
    return matrix[:, number], f"of the place {place} of {list(tokens.grid)}"


def _check_whole(block: AttentionBlock, image: Tensor) -> None:
    count, batch = len(block.weights), len(image)
    slices = image.shape[2] if image.ndim == 5 else 1
    if count not in (batch, batch * slices):
        raise ExplanationError(
            f"{block.name} gives {count} matrices for {batch} samples: it attends within windows or groups, whose "
            "places are not known; take grad_cam, or name by modules=[…] blocks that see whole images"
        )
