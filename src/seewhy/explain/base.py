"""The frame of every explainer: what is the same for all methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from seewhy.explain.explained_model import ExplainedModel, Inputs, Target
from seewhy.explain.frozen_module import keep_unchanged
from seewhy.explain.maps import Maps, Reading

__all__ = ["Attribution", "Explainer", "TargetwiseExplainer"]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What a method found for one target per sample; the fields are those of `seewhy.explain.maps.Maps`."""

    maps: dict[str, Tensor]
    strength: dict[str, Tensor] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    completeness: Tensor | None = None
    notes: tuple[str, ...] = ()


class Explainer(ABC):
    """Maps of any module by one method.

    Subclasses fill `explain` (or `attribute` of `TargetwiseExplainer`) and say what the method is called and how it
    is read. They find the module in evaluation mode with frozen parameters, gradients enabled, and leave nothing
    behind.

    Attributes:
        method: name of the file in `conf/explainer`.
        reading: what of a signed map speaks for the target.
        baseline: what "absent" means to the method, in words.
        seed: of random draws.
    """

    method: str
    reading: Reading = "positive"
    baseline: str | None = None
    seed: int | None = None

    def __call__(self, module: nn.Module, inputs: Inputs, target: Target = None) -> Maps:
        """Explain a batch.

        Args:
            module: any module that gives class scores [B, K]; with a single column, class 1 is its value.
            inputs: a batch [B, C, H, W] or [B, C, D, H, W], or several by name or position.
            target: class index, or one per sample; None explains the predicted class.

        Raises:
            ConfigError: no such class or layer, or inputs that do not fit the module.
        """
        return self.for_targets(module, inputs, [target])[0]

    def for_targets(self, module: nn.Module, inputs: Inputs, targets: Sequence[Target]) -> list[Maps]:
        """Explain a batch for several targets, with the work they share done once."""
        subject = ExplainedModel(module, inputs)
        with keep_unchanged(subject.module):
            scores, chosen, found = self.explain(subject, targets)
        return [
            Maps(
                method=self.method,
                maps={name: one.detach().float() for name, one in attribution.maps.items()},
                strength=attribution.strength,
                target=target,
                probability=subject.probabilities(scores, target),
                scores=scores.detach().float(),
                reading=self.reading,
                layers=attribution.layers,
                baseline=self.baseline,
                completeness=attribution.completeness,
                seed=self.seed,
                notes=attribution.notes,
            )
            for target, attribution in zip(chosen, found, strict=True)
        ]

    @abstractmethod
    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """Scores [B, K], the resolved targets [B] each, and what was found for each of them."""


class TargetwiseExplainer(Explainer):
    """An explainer that works target by target, after one plain forward that gives the scores."""

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """See `Explainer.explain`."""
        with torch.no_grad():
            scores = subject.scores(subject.inputs)
        chosen = [subject.targets(target, scores) for target in targets]
        return scores, chosen, [self.attribute(subject, target, scores) for target in chosen]

    @abstractmethod
    def attribute(self, subject: ExplainedModel, target: Tensor, scores: Tensor) -> Attribution:
        """Maps of one target per sample.

        Args:
            subject: module and batch.
            target: [B] int64.
            scores: [B, K] of the batch, without graph.
        """
