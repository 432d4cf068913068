"""Base class of maps that are read from one forward, the layout of tokens on the image, and the query that is shown."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.capture.attention import AttentionBlock
from seewhy.explain.capture.function_tracer import Modules, Run
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.grid import arrange_by_sample, enlarge
from seewhy.explain.targets import Target

__all__ = [
    "CoarseMap",
    "ForwardMap",
    "Query",
    "Tokens",
    "check_query",
    "check_square",
    "find_tokens",
    "make_attribution",
    "read_row",
    "shorten_names",
]

UNTARGETED = "the same for every class: it shows where the network looks, not what is evidence for a class"


@dataclass(frozen=True)
class CoarseMap:
    """A coarse map of one input.

    Attributes:
        values: [N, *s], see `seewhy.explain.grid.arrange_by_sample`.
        layer: name of the submodule that it was read from.
        notes: remarks for the reader.
    """

    values: Tensor
    layer: str
    notes: tuple[str, ...] = ()


class ForwardMap(Explainer):
    """A method whose maps are read from one forward and are the same for every target.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
    """

    def __init__(self, *, modules: Modules = None) -> None:
        self.modules = modules

    def chosen_parts(self) -> object:
        """See `Explainer.chosen_parts`."""
        return self.modules

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """See `Explainer.explain`; one forward without a graph."""
        with torch.no_grad():
            scores, maps = self.read_maps(subject)
        chosen = [subject.targets(target, scores) for target in targets]
        return scores, chosen, [make_attribution(subject, maps, (UNTARGETED,)) for _ in chosen]

    @abstractmethod
    def read_maps(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """Return scores [B, K], and the coarse maps of each input, which are averaged."""


def make_attribution(
    subject: ExplainedModel, maps: Mapping[str, Sequence[CoarseMap]], notes: tuple[str, ...] = ()
) -> Attribution:
    """Enlarge coarse maps to the size of the inputs and average those of each input."""
    enlarged, layers, all_notes = {}, {}, list(notes)
    for name, coarse_maps in maps.items():
        image = subject.inputs[name]
        total = torch.zeros_like(image[:, 0], dtype=torch.float32)
        for coarse in coarse_maps:
            values, new_notes = arrange_by_sample(coarse.values.float(), image)
            total += enlarge(values, image.shape[2:])
            all_notes += [*coarse.notes, *new_notes]
        enlarged[name] = total / len(coarse_maps)
        layers[name] = ", ".join(dict.fromkeys(coarse.layer for coarse in coarse_maps))
    return Attribution(maps=enlarged, layers=layers, notes=tuple(dict.fromkeys(all_notes)))


def shorten_names(names: Sequence[str]) -> str:
    """Shorten the names of consecutive blocks to the first and the last."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


MOST_EXTRA = 2
"""Most leading tokens (class, distillation) that are assumed if neither the network nor the user gives their number.

With more, almost any number of tokens would fit some grid, even if the tokens are channels and not positions."""

Query: TypeAlias = Literal["auto", "class", "mean"] | Sequence[float]
"""Query whose weights are shown: class (the class token), mean (over all positions), or a pixel (y, x) or (z, y, x);
auto is the class token if the network is known to read its scores from it, otherwise the mean."""


@dataclass(frozen=True)
class Tokens:
    """Layout of a sequence of tokens.

    Attributes:
        prefix: number of leading tokens without a position: class, distillation, registers.
        grid: grid size of the other tokens, in row-major order.
        class_token: whether the scores are read from the first token.
    """

    prefix: int
    grid: tuple[int, ...]
    class_token: bool


def find_tokens(count: int, block: AttentionBlock, image: Tensor, grid: Sequence[int] | None = None) -> Tokens:
    """Determine the layout of a number of tokens.

    The number of leading tokens is the network's `num_prefix_tokens` if it has this attribute. The grid is the given
    one, or the output size of an earlier convolution or pooling, or one with the image's proportions.

    Args:
        count: N or M.
        block: the block that the tokens belong to.
        image: [B, C, *spatial], the input.
        grid: grid size of the tokens; None determines it.

    Raises:
        ConfigError: the tokens do not fit the grid.
    """
    prefix, class_token = _read_prefix(block.run)
    if grid is not None:
        sizes, extras = [tuple(grid)], range(count)
    else:
        extras = range(MOST_EXTRA + 1) if prefix is None else range(prefix, prefix + 1)
        sizes = [*block.run.grids[::-1], *_list_proportionate(count, extras, block, image)]
    for extra in extras:
        for size in sizes:
            if math.prod(size) == count - extra > 1:
                return Tokens(extra, size, extra > 0 and class_token)
    leading = f" ({prefix} of them without a position)" if prefix else ""
    expected = f"the grid {list(grid)}" if grid is not None else f"any known grid of an image {tuple(image.shape[2:])}"
    raise ConfigError(
        f"{block.name}: {count} tokens{leading} do not fit {expected}; give grid=[…], or choose other blocks"
    )


def _list_proportionate(
    count: int, extras: Sequence[int], block: AttentionBlock, image: Tensor
) -> list[tuple[int, ...]]:
    """List grids with the image's proportions that fit a number of tokens; planar if slices are processed alone."""
    spatial = image.shape[2:] if len(block.weights) == len(image) else image.shape[-2:]
    grids = []
    for extra in extras:
        scale = (max(count - extra, 1) / math.prod(spatial)) ** (1 / len(spatial))
        size = tuple(round(side * scale) for side in spatial)
        if all(side * spatial[0] == size[0] * whole for side, whole in zip(size, spatial, strict=True)):
            grids.append(size)
    return grids


@runtime_checkable
class _CountsPrefix(Protocol):
    """Transformers of timm."""

    num_prefix_tokens: int


@runtime_checkable
class _CountsRegisters(Protocol):
    """Transformers of DINOv2."""

    num_register_tokens: int


def _read_prefix(run: Run) -> tuple[int | None, bool]:
    """Read from the network how many leading tokens it has, and whether its scores come from the first of them.

    The attributes are those of timm's and DINOv2's transformers. If only children of the network run and not its own
    forward, the use of its tokens is unknown.
    """
    for part in reversed(run.around):
        if isinstance(part, _CountsPrefix) and hasattr(part, "cls_token"):  # a parameter, which protocols do not find
            pools = getattr(part, "global_pool", "token") in ("token", "")
            return part.num_prefix_tokens, pools and part.cls_token is not None and part in run.running
        if isinstance(part, _CountsRegisters):
            return 1 + part.num_register_tokens, True
    return None, True


def check_query(query: Query) -> Query:
    """Return the query if it is valid.

    Raises:
        ConfigError: neither auto, class or mean nor a pixel.
    """
    is_pixel = not isinstance(query, str) and len(query) in (2, 3)
    if not is_pixel and query not in ("auto", "class", "mean"):
        raise ConfigError(f"query={query!r}; expected auto, class, mean, or a pixel [y, x] or [z, y, x]")
    return query


def check_square(block: AttentionBlock, image: Tensor, tokens: int | None, method: str) -> None:
    """Check that the queries and keys of a block are the same tokens as in the blocks before.

    Args:
        block: the captured block.
        image: [B, C, *spatial], the input.
        tokens: N of the blocks before; None for the first block.
        method: name of the method, for the error.

    Raises:
        ExplanationError: the weights of this block cannot be multiplied with those of the others.
    """
    _check_whole_images(block, image)
    queries, keys = block.weights.shape[2:]
    if queries == keys and tokens in (None, queries):
        return
    others = "" if queries != keys else f", while the blocks before have {tokens} tokens"
    raise ExplanationError(
        f"{method} multiplies the weights of blocks, but {block.name} has {queries} queries and {keys} keys{others}; "
        "use attention, which shows one block, or grad_cam, or select blocks with the same tokens by modules=[…]"
    )


def read_row(
    matrix: Tensor, block: AttentionBlock, image: Tensor, query: Query, *, grid: Sequence[int] | None = None
) -> tuple[Tensor, str]:
    """Read one row of a matrix, or the mean of its rows, on the grid of the keys.

    Args:
        matrix: [n, N, M].
        block: the block that the tokens belong to.
        image: [B, C, *spatial], the input.
        query: see `Query`.
        grid: grid size of the queries' tokens; None determines it, see `find_tokens`.

    Returns:
        [n, *grid], and a description of the query, e.g. "of the class token".

    Raises:
        ConfigError: no class token, or a pixel outside the image.
        ExplanationError: the tokens do not cover whole images.
    """
    _check_whole_images(block, image)
    count, keys = matrix.shape[1:]
    query_tokens = find_tokens(count, block, image, grid) if count > 1 else Tokens(1, (), True)
    key_tokens = query_tokens if keys == count else find_tokens(keys, block, image)
    row, description = _select_row(matrix, query_tokens, query, image, block.name)
    return row[:, key_tokens.prefix :].unflatten(1, key_tokens.grid), description


def _select_row(matrix: Tensor, tokens: Tokens, query: Query, image: Tensor, name: str) -> tuple[Tensor, str]:
    if matrix.shape[1] == 1 and isinstance(query, str):
        return matrix[:, 0], "of the only query"
    if isinstance(query, str):
        if query == "class" and not tokens.prefix:
            raise ConfigError(
                f"query=class, but {name} has no class token: all of its {matrix.shape[1]} tokens are positions"
            )
        if query == "class" or (query == "auto" and tokens.class_token):
            return matrix[:, 0], "of the class token"
        return matrix[:, tokens.prefix :].mean(dim=1), "(mean over all positions)"
    size = image.shape[2:]
    pixel = list(query)[-len(tokens.grid) :] if len(query) == len(size) else []
    sides = size[-len(pixel) :] if pixel else ()
    if len(pixel) != len(tokens.grid) or not all(0 <= at < side for at, side in zip(pixel, sides, strict=True)):
        raise ConfigError(f"query={list(query)} is outside an image of {tuple(size)} in {name}")
    cell = [int(at * cells / side) for at, cells, side in zip(pixel, tokens.grid, sides, strict=True)]
    number = tokens.prefix + sum(at * math.prod(tokens.grid[axis + 1 :]) for axis, at in enumerate(cell))
    return matrix[:, number], f"of position {cell} in a grid of {list(tokens.grid)}"


def _check_whole_images(block: AttentionBlock, image: Tensor) -> None:
    count, batch = len(block.weights), len(image)
    slices = image.shape[2] if image.ndim == 5 else 1
    if count not in (batch, batch * slices):
        raise ExplanationError(
            f"{block.name} returns {count} matrices for {batch} samples: it attends within windows or groups, whose "
            "positions are unknown; use grad_cam, or select blocks that see whole images by modules=[…]"
        )
