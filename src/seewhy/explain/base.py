"""Base classes of all explainers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.maps import Contributions, Maps, Reading
from seewhy.explain.targets import Target

__all__ = ["Attribution", "Explainer", "TargetwiseExplainer"]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Result of a method for one target per sample; the fields are those of `seewhy.explain.maps.Maps`."""

    maps: dict[str, Tensor]
    strength: dict[str, Tensor] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    completeness: Tensor | None = None
    contributions: Contributions | None = None
    notes: tuple[str, ...] = ()


class Explainer(ABC):
    """Attribution maps of any module by one method.

    Subclasses implement `explain` (or `attribute` of `TargetwiseExplainer`) and set the attributes below. While they
    run, the module is in evaluation mode with frozen parameters, and gradients are enabled. They must remove their
    hooks.

    Attributes:
        method: name of the method, equal to its file name in `conf/explainer`.
        reading: which part of a signed map is evidence for the target.
        baseline: description of the image that the method treats as "absent".
        seed: seed of random draws.

    Example:
        >>> import torch
        >>> from torch import Tensor, nn
        >>> from seewhy.explain import Attribution, ExplainedModel, TargetwiseExplainer
        >>> class Brightness(TargetwiseExplainer):
        ...     method = "brightness"
        ...     def attribute(self, subject: ExplainedModel, target: Tensor, scores: Tensor) -> Attribution:
        ...         return Attribution(maps={name: image.mean(dim=1) for name, image in subject.inputs.items()})
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> Brightness()(net, torch.ones(2, 1, 4, 4), target=1).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method: str
    reading: Reading = "positive"
    baseline: str | None = None
    seed: int | None = None

    def chosen_parts(self) -> object:
        """Return the layers or modules that the user chose, by name; None for the module's own."""
        return None

    def __call__(self, module: nn.Module, inputs: Inputs, target: Target = None) -> Maps:
        """Explain a batch.

        Args:
            module: any module that returns class scores [B, K]; a single column is the score of class 1.
            inputs: a batch [B, C, H, W] or [B, C, D, H, W], or several batches by name or position.
            target: class index or name, or one per sample; None explains the predicted class; a contrast `a-b` of two
                classes explains the difference of their scores, see `seewhy.explain.targets.Target`.

        Raises:
            ConfigError: a class or layer that does not exist, inputs that do not fit the module, or an output that
                is not the samples' class scores.
            ExplanationError: scores that are not finite, or that depend on the other samples of the batch.
        """
        return self.for_targets(module, inputs, [target])[0]

    def for_targets(self, module: nn.Module, inputs: Inputs, targets: Sequence[Target]) -> list[Maps]:
        """Explain a batch for several targets; work that the targets share is done once."""
        subject = ExplainedModel(module, inputs)
        with keep_unchanged(subject.module):
            with suppress(torch.OutOfMemoryError):  # which the method's own memory budget reports
                subject.check_rows()
            scores, chosen, attributions = self.explain(subject, targets)
        return [
            Maps(
                method=self.method,
                maps={name: values.detach().float() for name, values in attribution.maps.items()},
                strength=attribution.strength,
                target=target if target.ndim == 1 else target[:, 0],
                reference=None if target.ndim == 1 else target[:, 1],
                probability=subject.probabilities(scores, target),
                scores=scores.detach().float(),
                reading=self.reading,
                layers=attribution.layers,
                baseline=self.baseline,
                completeness=attribution.completeness,
                contributions=attribution.contributions,
                seed=self.seed,
                notes=(*attribution.notes, *subject.describe_column(scores)),
            )
            for target, attribution in zip(chosen, attributions, strict=True)
        ]

    @abstractmethod
    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """Return scores [B, K], the resolved targets [B] (contrasts: [B, 2]), and one attribution for each target."""


class TargetwiseExplainer(Explainer):
    """An explainer that handles one target at a time, after one forward without a graph for the scores."""

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
        """Compute the maps of one target per sample.

        Args:
            subject: module and batch.
            target: [B] int64, or [B, 2] for contrasts; `ExplainedModel.target_scores` takes both.
            scores: [B, K] class scores of the batch, without a graph.
        """
