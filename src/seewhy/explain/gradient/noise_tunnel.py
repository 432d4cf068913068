"""Noise tunnel: the maps of any explainer, aggregated over noisy copies of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, check_noise, draw_step_noise
from seewhy.explain.targets import Target
from seewhy.option_types import MemorySize, NonNegativeFloat, PositiveInt, Seed
from seewhy.options import check_choice

__all__ = ["NoiseTunnel"]

Gathering = Literal["smooth", "square", "variance"]


class NoiseTunnel(Explainer):
    """Mean, mean square or variance of the maps of noisy copies of the image.

    The mean is SmoothGrad (Smilkov 2017, equation 1). The mean square and the variance (VarGrad: Adebayo 2018,
    appendix) measure how much a map varies, without a sign. Maps are aggregated with their sign, before any magnitude
    is taken, so that noise cancels.

    Args:
        explainer: computes the maps.
        gather: "smooth", "square" or "variance".
        samples: noisy copies per image, at least 1.
        noise: standard deviation as a share of each image's range.
        seed: seed of the noise.
        name: name of the method; None derives it from `gather` and the explainer's name.
        memory_budget: memory limit of the copies that are explained together.

    Raises:
        ConfigError: an option out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import NoiseTunnel, Saliency
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        >>> tunnel = NoiseTunnel(explainer=Saliency(), gather="variance", samples=4)
        >>> maps = tunnel(net, torch.rand(1, 1, 4, 4), target=0)
        >>> maps.method, float(maps.maps["image"].max())  # the gradient of a linear model does not vary
        ('variance_saliency', 0.0)
    """

    seed: int

    def __init__(
        self,
        *,
        explainer: Explainer,
        gather: Gathering = "smooth",
        samples: PositiveInt = 10,
        noise: NonNegativeFloat = 0.15,
        seed: Seed = 0,
        name: str | None = None,
        memory_budget: MemorySize = "1GiB",
    ) -> None:
        check_noise(noise, samples, seed)
        check_choice(gather, get_args(Gathering), "gather")
        self.explainer, self.gather, self.samples, self.noise, self.seed = explainer, gather, samples, noise, seed
        self.method = name or f"{gather}_{explainer.method}"
        self.reading = explainer.reading if gather == "smooth" else "positive"
        self.baseline = explainer.baseline
        self.budget = MemoryBudget(memory_budget)

    def chosen_parts(self) -> object:
        """See `Explainer.chosen_parts`."""
        return self.explainer.chosen_parts()

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """See `Explainer.explain`."""
        with self.budget.guarded():
            with torch.no_grad():
                scores = subject.scores(subject.inputs)
            chosen = [subject.targets(target, scores) for target in targets]
            copies = max(self.budget.gradient_rows(subject) // subject.batch, 1)
            moments = [_MapMoments() for _ in targets]
            for steps in torch.arange(self.samples).split(copies):
                self._add_copies(subject, chosen, scores, steps.tolist(), moments)
        return scores, chosen, [self._make_attribution(target_moments) for target_moments in moments]

    def _add_copies(
        self,
        subject: ExplainedModel,
        targets: Sequence[Tensor],
        scores: Tensor,
        steps: list[int],
        moments: list[_MapMoments],
    ) -> None:
        """Explain one noisy copy of the batch for each step, all at once."""
        rows = torch.arange(subject.batch, device=targets[0].device).repeat(len(steps))
        owners = [step for step in steps for _ in range(subject.batch)]
        images = {name: image[rows] for name, image in subject.inputs.items()}
        noise = draw_step_noise(images, self.seed, owners, self.noise)
        noisy = subject.changed({name: image + noise[name] for name, image in images.items()}, rows)
        chosen = [target[rows] for target in targets]
        if isinstance(self.explainer, GradientExplainer):
            # Only their completeness needs the scores of the copies, and the mean of such errors means nothing.
            attributions = self.explainer.attributions(noisy, chosen, scores[rows])
        else:
            _, _, attributions = self.explainer.explain(noisy, chosen)
        for target_moments, attribution in zip(moments, attributions, strict=True):
            for position in range(len(steps)):
                part = slice(position * subject.batch, (position + 1) * subject.batch)
                target_moments.add(attribution, part)

    def _make_attribution(self, moments: _MapMoments) -> Attribution:
        last = moments.last
        strength = None
        if self.gather == "smooth":
            maps = {name: mean for name, (mean, _) in moments.maps.items()}
            if last.strength is not None and self.reading == "positive":
                strength = {name: mean for name, (mean, _) in moments.strength.items()}
        elif self.gather == "square":
            maps = {name: squares / moments.count + mean**2 for name, (mean, squares) in moments.maps.items()}
        else:
            maps = {name: squares / moments.count for name, (_, squares) in moments.maps.items()}
        return Attribution(maps=maps, strength=strength, layers=last.layers, notes=last.notes)


class _MapMoments:
    """Running means and sums of squared deviations of maps (Welford 1962), without loss of digits by cancellation."""

    def __init__(self) -> None:
        self.count = 0
        self.maps: dict[str, tuple[Tensor, Tensor]] = {}
        self.strength: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, attribution: Attribution, rows: slice) -> None:
        """Add the maps of a slice of rows."""
        self.count += 1
        self.last = attribution
        self._add(self.maps, attribution.maps, rows)
        self._add(self.strength, attribution.strength or {}, rows)

    def _add(self, kept: dict[str, tuple[Tensor, Tensor]], maps: dict[str, Tensor], rows: slice) -> None:
        for name, values in maps.items():
            new = values[rows].detach().float()
            mean, squares = kept.get(name, (torch.zeros_like(new), torch.zeros_like(new)))
            step = new - mean
            mean = mean + step / self.count
            kept[name] = (mean, squares + step * (new - mean))
