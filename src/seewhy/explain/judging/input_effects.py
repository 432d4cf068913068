"""What each input is worth to the decision: the target's score with it and without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.frozen_module import keep_unchanged
from seewhy.explain.judging.perturbation import Fill, fill_image
from seewhy.explain.judging.similarity import average_ranks, correlation
from seewhy.explain.maps import Maps

__all__ = ["Effects", "leave_one_out"]

PRESENT = "present"


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Fall of the target when one input is left out; negative where the input spoke against it.

    Attributes:
        score: input → [B] fall of the raw score; NaN where the input was missing.
        probability: input → [B] fall of the probability.
        removal: how an input was left out: `absent` (the module was told), or the fill.
        agreement: [B] rank correlation of the score's falls with the inputs' shares in the map; NaN with fewer than
            two inputs or equal values.
    """

    score: dict[str, Tensor]
    probability: dict[str, Tensor]
    removal: str
    agreement: Tensor


def leave_one_out(module: nn.Module, inputs: Inputs, maps: Maps, *, fill: Fill = "mean") -> Effects:
    """Leave out one input after the other.

    A module that takes `present` [B, inputs] is told that the input is missing and gets zeros for it, as in
    training; others get the fill.

    Args:
        module: what was explained.
        inputs: the batch.
        maps: its maps, for target and shares.
        fill: what replaces an input of a module that knows no missing ones.
    """
    subject = ExplainedModel(module, inputs)
    names = list(subject.inputs)
    present = subject.constants.get(PRESENT)
    told = present is not None and present.shape == (subject.batch, len(names))
    target = maps.target.to(subject.inputs[names[0]].device)
    score, probability = {}, {}
    with keep_unchanged(subject.module), torch.no_grad():
        whole = subject.scores(subject.inputs)
        for position, name in enumerate(names):
            changed = {**subject.inputs, name: fill_image(subject.inputs[name], "zero" if told else fill)}
            if told:
                left = present.clone()  # type: ignore[union-attr]
                left[:, position] = False
                subject.constants[PRESENT] = left
            part = subject.scores(changed)
            score[name] = (subject.target_scores(whole, target) - subject.target_scores(part, target)).float()
            probability[name] = subject.probabilities(whole, target) - subject.probabilities(part, target)
            if told:
                missing = ~present[:, position].bool()  # type: ignore[index]
                score[name] = score[name].masked_fill(missing, float("nan"))
                probability[name] = probability[name].masked_fill(missing, float("nan"))
    removal = "absent" if told else fill
    return Effects(score=score, probability=probability, removal=removal, agreement=_agreement(score, maps))


def _agreement(score: dict[str, Tensor], maps: Maps) -> Tensor:
    falls = torch.stack(list(score.values()), dim=1).double().cpu()
    shares = torch.stack([maps.shares()[name].double().cpu() for name in score], dim=1)
    found = []
    for fall, share in zip(falls, shares, strict=True):
        known = fall.isfinite()
        few = int(known.sum()) < 2
        ranks = (average_ranks(fall[known]), average_ranks(share[known]))
        found.append(falls.new_tensor(float("nan")) if few else correlation(*ranks))
    return torch.stack(found)
