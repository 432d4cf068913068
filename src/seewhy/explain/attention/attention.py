"""Raw attention maps: of transformers, by block and head, and of non-local blocks without heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.attention.base import CoarseMap, ForwardMap, Query, check_query, read_row
from seewhy.explain.capture.attention import AttentionBlock, BlockHandler, capture_attention
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.explained_model import ExplainedModel
from seewhy.option_types import NonNegativeInt

__all__ = ["Attention", "SelfAttention"]


class Attention(ForwardMap):
    """Attention weights of one block (Vaswani 2017, equation 1), on the grid of its keys.

    Works for any attention between positions: plain transformers and those with reduced keys, in 2D and 3D. The
    weights are those of one layer only, whose tokens were already mixed by the layers before.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        block: index of the block, in the order in which they run, negative from the last; None is the mean of the
            maps of all blocks.
        head: index of the head; None is the mean of the heads.
        query: see `seewhy.explain.attention.base.Query`.
        grid: grid size of the queries' tokens; None determines it.

    Raises:
        ConfigError: an invalid query.

    Example:
        >>> import torch
        >>> import timm
        >>> from seewhy.explain import Attention
        >>> _ = torch.manual_seed(0)
        >>> net = timm.create_model(
        ...     "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=32, num_heads=2, num_classes=3
        ... )
        >>> maps = Attention(block=0)(net, torch.rand(1, 3, 32, 32))
        >>> maps.layers, maps.maps["image"].shape, maps.notes[-1]
        ({'image': 'blocks.0.attn'}, torch.Size([1, 32, 32]), 'weights of the class token')
    """

    method = "attention"

    def __init__(
        self,
        *,
        modules: Modules = None,
        block: int | None = -1,
        head: NonNegativeInt | None = None,
        query: Query = "auto",
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__(modules=modules)
        self.block, self.head, self.query, self.grid = block, head, check_query(query), grid

    def read_maps(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """See `ForwardMap.read_maps`."""
        kept: dict[str, list[AttentionBlock]] = {}
        maps: dict[str, list[CoarseMap]] = {}
        counts: dict[str, int] = {}

        def handle(block: AttentionBlock) -> None:
            name = block.run.input
            number = counts[name] = counts.get(name, 0) + 1
            if self.block is None:
                maps.setdefault(name, []).append(self._make_map(subject, self._merge_heads(block)))
            elif self.block < 0 or number - 1 == self.block:
                last = kept.setdefault(name, [])
                last.append(self._merge_heads(block))
                del last[: min(self.block, -1)]  # earlier blocks are not needed

        scores = self.capture(subject, handle)
        for name, count in counts.items():
            if self.block is not None:
                if not -count <= self.block < count:
                    raise ConfigError(
                        f"{self.method}: block={self.block} is out of range: input {name} passes {count} blocks with "
                        f"attention; expected {-count} to {count - 1}, or null for the mean of all"
                    )
                maps[name] = [self._make_map(subject, kept[name][0])]
        return scores, maps

    def capture(self, subject: ExplainedModel, handle: BlockHandler) -> Tensor:
        """Run the module, pass its blocks to `handle`, and return class scores [B, K]."""
        return capture_attention(subject, self.modules, handle)

    def _merge_heads(self, block: AttentionBlock) -> AttentionBlock:
        """Select one head of the block, or average the heads."""
        heads = block.weights.shape[1]
        if self.head is None:
            return replace(block, weights=block.weights.mean(dim=1, keepdim=True))
        if not -heads <= self.head < heads:
            raise ConfigError(
                f"{self.method}: head={self.head}, but {block.name} has {heads} heads; expected 0 to {heads - 1}"
            )
        return replace(block, weights=block.weights[:, [self.head]].clone())

    def _make_map(self, subject: ExplainedModel, block: AttentionBlock) -> CoarseMap:
        image = subject.inputs[block.run.input]
        values, description = read_row(block.weights[:, 0], block, image, self.query, grid=self.grid)
        return CoarseMap(values, block.name, (f"weights {description}",))


class SelfAttention(Attention):
    """Weights [B, N, M] of non-local blocks (Wang 2018, equation 4; SAGAN, Zhang 2019, equation 1), without heads.

    The mean over queries shows how much attention a position receives; the row of one query shows where that position
    looks. Blocks with heads are ignored.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        block: see `Attention`.
        query: "mean", or a pixel (y, x) or (z, y, x).
        grid: grid size of the queries; None determines it.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import SelfAttention
        >>> from seewhy.nets.generators.blocks import SelfAttention2d
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), SelfAttention2d(8), nn.Flatten(), nn.Linear(512, 2))
        >>> maps = SelfAttention(query=[0, 5])(net, torch.rand(2, 1, 8, 8))
        >>> maps.maps["image"].shape, maps.notes[-1]
        (torch.Size([2, 8, 8]), 'weights of position [0, 5] in a grid of [8, 8]')
    """

    method = "self_attention"

    def __init__(
        self,
        *,
        modules: Modules = None,
        block: int | None = -1,
        query: Query = "mean",
        grid: Sequence[int] | None = None,
    ) -> None:
        if query in ("auto", "class"):
            raise ConfigError(f"self_attention: query={query} needs a class token; expected mean or a pixel")
        super().__init__(modules=modules, block=block, query=query, grid=grid)

    def capture(self, subject: ExplainedModel, handle: BlockHandler) -> Tensor:
        """See `Attention.capture`; only blocks without heads are used."""
        with_heads: list[str] = []
        headless: list[str] = []

        def choose(block: AttentionBlock) -> None:
            (headless if block.headless else with_heads).append(block.name)
            if block.headless:
                handle(block)

        # The attention in a module's `explainable()` has heads, so the whole module is searched.
        scores = capture_attention(subject, self.modules, choose, default=())
        if not headless:
            raise ConfigError(
                f"no attention [B, N, M] without heads in {type(subject.module).__name__}, only attention with heads "
                f"({with_heads[0]}{', …' * (len(with_heads) > 1)}); use attention, attention_rollout or "
                "attention_relevance"
            )
        return scores
