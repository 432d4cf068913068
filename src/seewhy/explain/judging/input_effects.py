"""Effect of each input on the decision: the target's score with and without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import Fill, fill_image
from seewhy.explain.judging.reused_calls import reuse_calls
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.judging.similarity import average_ranks, correlation
from seewhy.explain.maps import Maps

__all__ = ["Effects", "leave_one_out"]

PRESENT = "present"


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Decrease of the target when one input is left out; negative if the input is evidence against it.

    Attributes:
        score: input → [B] decrease of the raw score; NaN if the input was missing.
        probability: input → [B] decrease of the probability.
        removal: how an input was left out: `absent` (marked as missing in `present`), or the fill.
        agreement: [B] rank correlation of the decreases of the score with the inputs' shares in the map; NaN with fewer
            than two inputs or equal values.
    """

    score: dict[str, Tensor]
    probability: dict[str, Tensor]
    removal: str
    agreement: Tensor


def leave_one_out(
    module: nn.Module, inputs: Inputs, maps: Maps, *, fill: Fill = "mean", shared: SharedWork | None = None
) -> Effects:
    """Leave out one input after the other.

    If the module takes `present` [B, inputs], the input is marked as missing there and replaced by zeros, as in
    training; otherwise it is replaced by the fill.

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps of the batch, for target and shares.
        fill: replacement of an input if the module does not take `present`.
        shared: keeps the decreases, which do not depend on the maps, for other methods on the same batch and target.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient, leave_one_out
        >>> class Sum(nn.Module):
        ...     def forward(self, t1, t2):
        ...         return torch.stack([-t1.sum((1, 2, 3)), t1.sum((1, 2, 3)) + 2 * t2.sum((1, 2, 3))], dim=1)
        >>> images = {"t1": torch.ones(1, 1, 2, 2), "t2": torch.ones(1, 1, 2, 2)}
        >>> maps = InputXGradient()(Sum(), images, target=1)
        >>> leave_one_out(Sum(), images, maps, fill="zero").score
        {'t1': tensor([4.]), 't2': tensor([8.])}
    """
    subject = ExplainedModel(module, inputs)
    target = maps.explained.to(next(iter(subject.inputs.values())).device)
    work = (shared or SharedWork()).of(subject.module, subject.everything)
    name = ("without an input", fill, str(target.tolist()))
    score, probability, removal = work.get(name, lambda: _compute_decreases(subject, target, fill))
    return Effects(score=score, probability=probability, removal=removal, agreement=_compare_with_shares(score, maps))


Decreases: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor], str]


def _compute_decreases(subject: ExplainedModel, target: Tensor, fill: Fill) -> Decreases:
    """Compute the decreases of score and probability by input, and state how inputs were left out."""
    names = list(subject.inputs)
    present = subject.constants.get(PRESENT)
    marked = present is not None and present.shape == (subject.batch, len(names))
    score, probability = {}, {}
    layers = set(subject.about.layers.values())
    branches = [part for name, part in subject.module.named_modules() if name in layers]
    with keep_unchanged(subject.module), torch.no_grad(), reuse_calls(branches):
        whole = subject.scores(subject.inputs)
        for position, name in enumerate(names):
            changed = {**subject.inputs, name: fill_image(subject.inputs[name], "zero" if marked else fill)}
            if marked:
                remaining = present.clone()  # type: ignore[union-attr]
                remaining[:, position] = False
                subject.constants[PRESENT] = remaining
            part = subject.scores(changed)
            score[name] = (subject.target_scores(whole, target) - subject.target_scores(part, target)).float()
            probability[name] = subject.probabilities(whole, target) - subject.probabilities(part, target)
            if marked:
                missing = ~present[:, position].bool()  # type: ignore[index]
                score[name] = score[name].masked_fill(missing, float("nan"))
                probability[name] = probability[name].masked_fill(missing, float("nan"))
    return score, probability, "absent" if marked else fill


def _compare_with_shares(score: dict[str, Tensor], maps: Maps) -> Tensor:
    shares = maps.shares()
    decreases, parts = (torch.stack([one[name].double().cpu() for name in score], dim=1) for one in (score, shares))
    finite = decreases.isfinite()
    result = decreases.new_full((len(decreases),), float("nan"))
    for row in range(len(decreases)) if decreases.shape[1] > 1 else ():
        known = finite[row]
        if int(known.sum()) > 1:
            result[row] = correlation(average_ranks(decreases[row][known]), average_ranks(parts[row][known]))
    return result
