"""Self-attention maps of convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.attention.attention import Attention
from seewhy.explain.attention.tokens import Query
from seewhy.explain.capture.attention import AttentionBlock, BlockHandler, capture_attention
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["SelfAttention"]


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
