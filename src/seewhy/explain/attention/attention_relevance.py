"""Gradient-weighted attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from seewhy.errors import ConfigError
from seewhy.explain.attention.base import CoarseMap, make_attribution, shorten_names
from seewhy.explain.attention.tokens import Query, check_query, check_square, read_row
from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.capture.activations import Capture
from seewhy.explain.capture.attention import AttentionBlock, capture_attention
from seewhy.explain.capture.function_tracer import Modules
from seewhy.explain.explained_model import ExplainedModel, Target

__all__ = ["AttentionRelevance"]


class AttentionRelevance(Explainer):
    """Attention that the class score rises with, followed through the blocks (Chefer 2021, ICCV, equations 5 and 6).

    R ← R + Ā R over the blocks in their order, R at first I, with Ā the mean over heads of (∇A ⊙ A)⁺. Shown is what
    the blocks add, R − I. One forward serves all targets. The weights of all blocks are kept for the gradients.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`.
        query: see `seewhy.explain.attention.tokens.Query`; auto looks at the gradients: a class token that the
            target's score is not read from is not asked.
        grid: of the tokens; None is found.

    Raises:
        ConfigError: a query that is none; when it runs, blocks under gradient checkpointing.
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

        def see(block: AttentionBlock) -> None:
            name = block.run.input
            check_square(block, subject.inputs[name], sizes.get(name), self.method)
            sizes[name] = block.weights.shape[-1]
            blocks.append(block)

        scores = capture_attention(subject, self.modules, see, graph=True)
        chosen = [subject.targets(target, scores) for target in targets]
        seen = Capture(scores, {str(number): block.weights for number, block in enumerate(blocks)})
        found = []
        for position, target in enumerate(chosen):
            last = position == len(chosen) - 1
            try:
                gradients = seen.gradients(subject.target_scores(scores, target), last=last)
            except CheckpointError as error:
                raise ConfigError(
                    f"{self.method}: {type(subject.module).__name__} computes blocks anew in the backward (gradient "
                    "checkpointing), where their attention is not seen; switch it off to explain"
                ) from error
            found.append(self._attribution(subject, blocks, list(gradients.values())))
        return scores, chosen, found

    @torch.no_grad()
    def _attribution(
        self, subject: ExplainedModel, blocks: Sequence[AttentionBlock], gradients: Sequence[Tensor]
    ) -> Attribution:
        looks, notes = {}, []
        for name, image in subject.inputs.items():
            own = [
                (block, gradient) for block, gradient in zip(blocks, gradients, strict=True) if block.run.input == name
            ]
            if not own:
                continue
            if not any(bool(gradient.any()) for _, gradient in own):
                notes.append(f"the score does not depend on the attention of {name}: its map is empty")
            block, gradient = own[-1]
            unread = not bool(gradient[:, :, 0].any())
            query = "mean" if self.query == "auto" and unread else self.query
            coarse, whose = read_row(_relevance(own), block, image, query, grid=self.grid)
            looks[name] = [CoarseMap(coarse, shorten_names([one.name for one, _ in own]), (f"relevance {whose}",))]
        return make_attribution(subject, looks, tuple(notes))


def _relevance(blocks: Sequence[tuple[AttentionBlock, Tensor]]) -> Tensor:
    """R − I, [n, N, N]."""
    added: Tensor | None = None
    for block, gradient in blocks:
        mixing = (gradient.float() * block.weights.detach().float()).relu().mean(dim=1)
        # (I + Ā)(I + D) − I = D + Ā + Ā D
        added = mixing if added is None else added + mixing + mixing @ added
    assert added is not None
    return added
