"""Attention rollout maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.attention.base import (
    CoarseMap,
    ForwardMap,
    Query,
    check_query,
    check_square,
    read_row,
    shorten_names,
)
from seewhy.explain.capture.attention import AttentionBlock, capture_attention
from seewhy.explain.capture.function_tracer import Modules, Run
from seewhy.explain.explained_model import ExplainedModel
from seewhy.options import check_choice

__all__ = ["AttentionRollout", "HeadFusion"]

HeadFusion = Literal["mean", "max", "min"]


class AttentionRollout(ForwardMap):
    """Product of the attention of all blocks: how much of each position reaches the last block (Abnar 2020, §3).

    R ← Â R over the blocks in order, where Â is (A + I) / 2 with rows normalised to sum 1: attention and the residual
    connection count half each. Only one matrix of tokens by tokens per sample is stored at a time.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        head_fusion: how the heads of a block are combined: mean (as in the paper), max or min.
        discard_ratio: share of each sample's smallest weights that is set to zero in each block, in [0, 1).
        query: see `seewhy.explain.attention.base.Query`.
        grid: grid size of the tokens; None determines it.

    Raises:
        ConfigError: options out of range.

    Example:
        >>> import torch
        >>> import timm
        >>> from seewhy.explain import AttentionRollout
        >>> _ = torch.manual_seed(0)
        >>> net = timm.create_model(
        ...     "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=32, num_heads=2, num_classes=3
        ... )
        >>> AttentionRollout(head_fusion="max")(net, torch.rand(2, 3, 32, 32)).maps["image"].shape
        torch.Size([2, 32, 32])
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
        check_choice(head_fusion, get_args(HeadFusion), "head_fusion")
        if not 0 <= discard_ratio < 1:
            raise ConfigError(f"discard_ratio={discard_ratio}; expected at least 0 and below 1")
        self.head_fusion, self.discard_ratio = head_fusion, discard_ratio
        self.query, self.grid = check_query(query), grid

    def read_maps(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """See `ForwardMap.read_maps`."""
        rollouts: dict[str, Tensor] = {}
        runs: dict[str, list[Run]] = {}

        def handle(block: AttentionBlock) -> None:
            name = block.run.input
            before = rollouts.get(name)
            check_square(block, subject.inputs[name], None if before is None else before.shape[-1], self.method)
            mixing = self._make_mixing(block.weights)
            rollouts[name] = mixing if before is None else mixing @ before
            runs.setdefault(name, []).append(block.run)

        scores = capture_attention(subject, self.modules, handle)
        maps = {}
        for name, matrix in rollouts.items():
            last = AttentionBlock(matrix[:, None], runs[name][-1])
            values, description = read_row(matrix, last, subject.inputs[name], self.query, grid=self.grid)
            layer = shorten_names([run.name for run in runs[name]])
            maps[name] = [CoarseMap(values, layer, (f"weights {description}",))]
        return scores, maps

    def _make_mixing(self, weights: Tensor) -> Tensor:
        """Compute Â [n, N, N] of weights [n, heads, N, N]."""
        weights = weights.float()
        functions: dict[str, Callable[..., Tensor]] = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}
        matrix = functions[self.head_fusion](weights, dim=1)
        dropped = int(self.discard_ratio * matrix[0].numel())
        if dropped:
            flat = matrix.flatten(1)
            matrix = flat.scatter(1, flat.argsort(dim=1, stable=True)[:, :dropped], 0).reshape_as(matrix)
        matrix = (matrix + torch.eye(matrix.shape[-1], device=matrix.device)) / 2
        return matrix / matrix.sum(dim=-1, keepdim=True)
