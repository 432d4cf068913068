"""Self-attention of convolutional networks."""

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

    The mean over queries says how much a place is looked at from everywhere; the row of one place, where that place
    looks. Blocks with heads are passed over.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        block: see `Attention`.
        query: "mean", or a place as pixels (y, x) or (z, y, x).
        grid: of the queries; None is found.
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
            raise ConfigError(f"self_attention: query={query}, but there is no class token; expected mean or a pixel")
        super().__init__(modules=modules, block=block, query=query, grid=grid)

    def capture(self, subject: ExplainedModel, see: BlockHandler) -> Tensor:
        """See `Attention.capture`; only blocks without heads are shown."""
        headed: list[str] = []
        found: list[str] = []

        def choose(block: AttentionBlock) -> None:
            (found if block.headless else headed).append(block.name)
            if block.headless:
                see(block)

        # What a module says of its attention is about blocks with heads.
        scores = capture_attention(subject, self.modules, choose, told=())
        if not found:
            raise ConfigError(
                f"found no attention [B, N, M] without heads in {type(subject.module).__name__}, only with heads "
                f"({headed[0]}{', …' * (len(headed) > 1)}); take attention, attention_rollout or attention_relevance"
            )
        return scores
