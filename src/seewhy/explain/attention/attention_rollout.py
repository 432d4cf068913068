"""Attention rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.attention.base import CoarseMap, ForwardMap, shorten_names
from seewhy.explain.attention.tokens import Query, check_query, check_square, read_row
from seewhy.explain.capture.attention import AttentionBlock, capture_attention
from seewhy.explain.capture.function_tracer import Modules, Run
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["AttentionRollout", "HeadFusion"]

HeadFusion = Literal["mean", "max", "min"]


class AttentionRollout(ForwardMap):
    """How much of each place reaches the last block, if attention mixed and residuals kept half (Abnar 2020, §3).

    R ← Â R over the blocks in their order, with Â the rows of (A + I) / 2 normalised to sum 1. Only a matrix of
    tokens by tokens per sample is kept at a time.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        head_fusion: how the heads of a block become one: mean (the paper's), max or min.
        discard_ratio: share of each sample's smallest weights that is set to zero in each block, in [0, 1).
        query: see `seewhy.explain.attention.tokens.Query`.
        grid: of the tokens; None is found.

    Raises:
        ConfigError: options out of range.
    """

    method = "attention_rollout"

    def __init__(
        self,
        *,
        modules: Modules = None,
        head_fusion: HeadFusion = "mean",
        discard_ratio: float = 0.0,
        query: Query = "auto",
        grid: Sequence[int] | None = None,
    ) -> None:
        super().__init__(modules=modules)
        if head_fusion not in get_args(HeadFusion):
            raise ConfigError(f"head_fusion={head_fusion!r}; {nearest(str(head_fusion), get_args(HeadFusion))}")
        if not 0 <= discard_ratio < 1:
            raise ConfigError(f"discard_ratio={discard_ratio} must be at least 0 and below 1")
        self.head_fusion, self.discard_ratio = head_fusion, discard_ratio
        self.query, self.grid = check_query(query), grid

    def look(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """See `ForwardMap.look`."""
        rolled: dict[str, Tensor] = {}
        runs: dict[str, list[Run]] = {}

        def see(block: AttentionBlock) -> None:
            name = block.run.input
            before = rolled.get(name)
            check_square(block, subject.inputs[name], None if before is None else before.shape[-1], self.method)
            mixing = self._mixing(block.weights)
            rolled[name] = mixing if before is None else mixing @ before
            runs.setdefault(name, []).append(block.run)

        scores = capture_attention(subject, self.modules, see)
        looks = {}
        for name, matrix in rolled.items():
            last = AttentionBlock(matrix[:, None], runs[name][-1])
            coarse, whose = read_row(matrix, last, subject.inputs[name], self.query, grid=self.grid)
            looks[name] = [CoarseMap(coarse, shorten_names([run.name for run in runs[name]]), (f"weights {whose}",))]
        return scores, looks

    def _mixing(self, weights: Tensor) -> Tensor:
        """Â [n, N, N] of weights [n, heads, N, N]."""
        weights = weights.float()
        one = weights.mean(dim=1) if self.head_fusion == "mean" else getattr(weights, f"a{self.head_fusion}")(dim=1)
        dropped = int(self.discard_ratio * one[0].numel())
        if dropped:
            flat = one.flatten(1)
            one = flat.scatter(1, flat.argsort(dim=1, stable=True)[:, :dropped], 0).reshape_as(one)
        one = (one + torch.eye(one.shape[-1], device=one.device)) / 2
        return one / one.sum(dim=-1, keepdim=True)
