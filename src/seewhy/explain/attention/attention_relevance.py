"""Gradient-weighted attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from seewhy.errors import ConfigError
from seewhy.explain.attention.base import (
    CoarseMap,
    Query,
    check_query,
    check_square,
    make_attribution,
    read_row,
    shorten_names,
)
from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.capture.attention import AttentionBlock, capture_attention
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.capture.layers import Capture
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.targets import Target

__all__ = ["AttentionRelevance"]


class AttentionRelevance(Explainer):
    """Attention weighted by the gradient of the class score, through all blocks (Chefer 2021, ICCV, eq. 5 and 6).

    R ← R + Ā R over the blocks in order, starting from R = I, where Ā is the mean over heads of (∇A ⊙ A)⁺. The map is
    R − I, the part that the blocks add. One forward serves all targets. The weights of all blocks stay in memory.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        query: see `seewhy.explain.attention.base.Query`; auto uses the class token only if the target's score has a
            gradient by it.
        grid: grid size of the tokens; None determines it.

    Raises:
        ConfigError: an invalid query; when called, blocks with gradient checkpointing.

    Example:
        >>> import torch
        >>> import timm
        >>> from seewhy.explain import AttentionRelevance
        >>> _ = torch.manual_seed(0)
        >>> net = timm.create_model(
        ...     "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=32, num_heads=2, num_classes=3
        ... )
        >>> maps = AttentionRelevance()(net, torch.rand(2, 3, 32, 32), target=1)
        >>> maps.layers, maps.maps["image"].shape
        ({'image': 'blocks.0.attn … blocks.1.attn'}, torch.Size([2, 32, 32]))
    """

    method = "attention_relevance"

    def __init__(self, *, modules: Modules = None, query: Query = "auto", grid: Sequence[int] | None = None) -> None:
        self.modules, self.query, self.grid = modules, check_query(query), grid

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """One forward, then one backward through the blocks per target."""
        blocks: list[AttentionBlock] = []
        sizes: dict[str, int] = {}

        def handle(block: AttentionBlock) -> None:
            name = block.run.input
            check_square(block, subject.inputs[name], sizes.get(name), self.method)
            sizes[name] = block.weights.shape[-1]
            blocks.append(block)

        scores = capture_attention(subject, self.modules, handle, graph=True)
        chosen = [subject.targets(target, scores) for target in targets]
        captured = Capture(scores, {str(number): block.weights for number, block in enumerate(blocks)})
        attributions = []
        for position, target in enumerate(chosen):
            last = position == len(chosen) - 1
            try:
                gradients = captured.gradients(subject.target_scores(scores, target), last=last)
            except CheckpointError as error:
                raise ConfigError(
                    f"{self.method}: {type(subject.module).__name__} uses gradient checkpointing, which recomputes "
                    "blocks in the backward without their captured attention; switch it off"
                ) from error
            attributions.append(self._make_attribution(subject, blocks, list(gradients.values())))
        return scores, chosen, attributions

    @torch.no_grad()
    def _make_attribution(
        self, subject: ExplainedModel, blocks: Sequence[AttentionBlock], gradients: Sequence[Tensor]
    ) -> Attribution:
        maps, notes = {}, []
        for name, image in subject.inputs.items():
            pairs = [
                (block, gradient) for block, gradient in zip(blocks, gradients, strict=True) if block.run.input == name
            ]
            if not pairs:
                continue
            if not any(bool(gradient.any()) for _, gradient in pairs):
                notes.append(f"the score does not depend on the attention of {name}: its map is empty")
            block, gradient = pairs[-1]
            unused = not bool(gradient[:, :, 0].any())
            query = "mean" if self.query == "auto" and unused else self.query
            values, description = read_row(_compute_relevance(pairs), block, image, query, grid=self.grid)
            layer = shorten_names([block.name for block, _ in pairs])
            maps[name] = [CoarseMap(values, layer, (f"relevance {description}",))]
        return make_attribution(subject, maps, tuple(notes))


def _compute_relevance(blocks: Sequence[tuple[AttentionBlock, Tensor]]) -> Tensor:
    """Compute R − I, [n, N, N]."""
    mixings = ((gradient.float() * block.weights.detach().float()).relu().mean(dim=1) for block, gradient in blocks)
    # (I + Ā)(I + D) − I = D + Ā + Ā D
    return reduce(lambda added, mixing: added + mixing + mixing @ added, mixings)
