"""Raw attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.attention.base import CoarseMap, ForwardMap
from seewhy.explain.attention.tokens import Query, check_query, read_row
from seewhy.explain.capture.attention import AttentionBlock, BlockHandler, capture_attention
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["Attention"]


class Attention(ForwardMap):
    """The weights of one block as they are (Vaswani 2017, equation 1), on the grid of its keys.

    Any attention between places will do: of plain transformers, of those with reduced keys, in 2D and 3D. Weights
    are those of one layer only; what they mix has been mixed before.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        block: which of the blocks, in the order in which they run, from the last if negative; None is the mean of
            the maps of all.
        head: which of its heads; None is their mean.
        query: see `seewhy.explain.attention.tokens.Query`.
        grid: of the queries' tokens; None is found.

    Raises:
        ConfigError: a query that is none.
    """

    method = "attention"

    def __init__(
        self,
        *,
        modules: Modules = None,
        block: int | None = -1,
        head: int | None = None,
        query: Query = "auto",
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__(modules=modules)
        self.block, self.head, self.query, self.grid = block, head, check_query(query), grid

    def look(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """See `ForwardMap.look`."""
        kept: dict[str, list[AttentionBlock]] = {}
        looks: dict[str, list[CoarseMap]] = {}
        count: dict[str, int] = {}

        def see(block: AttentionBlock) -> None:
            name = block.run.input
            number = count[name] = count.get(name, 0) + 1
            if self.block is None:
                looks.setdefault(name, []).append(self._shown(subject, self._merged(block)))
            elif self.block < 0 or number - 1 == self.block:
                last = kept.setdefault(name, [])
                last.append(self._merged(block))
                del last[: min(self.block, -1)]  # those too early to be asked for

        scores = self.capture(subject, see)
        for name, found in count.items():
            if self.block is not None:
                if not -found <= self.block < found:
                    raise ConfigError(
                        f"{self.method}: block={self.block} is out of range: {name} passes {found} blocks with "
                        f"attention; expected {-found} to {found - 1}, or null for the mean of all"
                    )
                looks[name] = [self._shown(subject, kept[name][0])]
        return scores, looks

    def capture(self, subject: ExplainedModel, see: BlockHandler) -> Tensor:
        """Show the blocks that count to `see`; class scores [B, K]."""
        return capture_attention(subject, self.modules, see)

    def _merged(self, block: AttentionBlock) -> AttentionBlock:
        """The block with one matrix for its heads."""
        heads = block.weights.shape[1]
        if self.head is None:
            return replace(block, weights=block.weights.mean(dim=1, keepdim=True))
        if not -heads <= self.head < heads:
            raise ConfigError(
                f"{self.method}: head={self.head}, but {block.name} has {heads}; expected 0 to {heads - 1}"
            )
        return replace(block, weights=block.weights[:, [self.head]].clone())

    def _shown(self, subject: ExplainedModel, block: AttentionBlock) -> CoarseMap:
        image = subject.inputs[block.run.input]
        coarse, whose = read_row(block.weights[:, 0], block, image, self.query, grid=self.grid)
        return CoarseMap(coarse, block.name, (f"weights {whose}",))
