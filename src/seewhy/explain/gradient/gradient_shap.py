"""Gradient SHAP maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import (
    GradientExplainer,
    Images,
    check_noise,
    draw_step_noise,
    make_generator,
    sum_along_path,
)
from seewhy.explain.maps import compute_completeness_error
from seewhy.option_types import MemorySize, NonNegativeFloat, NonNegativeInt, PositiveInt

__all__ = ["GradientSHAP"]


class GradientSHAP(GradientExplainer):
    """Mean of (x − x0) ∂f(x0 + a (x − x0)) over drawn x0 and a ~ U[0, 1] (Erion 2021, equation 3).

    The choice of a baseline is arbitrary; the mean over several baselines depends less on each of them.

    Args:
        samples: draws per image, at least 1.
        baselines: one baseline, or several of which each draw uses one.
        noise: standard deviation of noise on x, as a share of the image's range.
        seed: seed of the draws.
        memory_budget: memory limit of the rows of one chunk.

    Raises:
        ConfigError: an option out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import GradientSHAP
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> maps = GradientSHAP(samples=8, baselines="zero")(net, torch.rand(1, 1, 2, 2), target=0)
        >>> maps.maps["image"].shape, bool(maps.completeness < 1e-4)  # exact for a linear model
        (torch.Size([1, 2, 2]), True)
    """

    method = "gradient_shap"
    seed: int

    def __init__(
        self,
        *,
        samples: PositiveInt = 32,
        baselines: Baseline | Sequence[Baseline] = ("minimum", "mean", "blur"),
        noise: NonNegativeFloat = 0.0,
        seed: NonNegativeInt = 0,
        memory_budget: MemorySize = "1GiB",
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        check_noise(noise, samples, seed)
        several = [baselines] if isinstance(baselines, (str, float, int)) else list(baselines)
        if not several:
            raise ConfigError("baselines is empty; expected at least one")
        self.starts = [check_baseline(baseline) for baseline in several]
        self.baseline = " or ".join(describe_baseline(baseline) for baseline in self.starts)
        self.samples, self.noise, self.seed = samples, noise, seed

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        drawing = make_generator(self.seed)
        shares = torch.rand(self.samples, generator=drawing)
        choices = torch.randint(len(self.starts), (self.samples,), generator=drawing)
        starts = [{name: make_baseline(image, one) for name, image in subject.inputs.items()} for one in self.starts]

        def draw(samples: Tensor, step: Tensor) -> tuple[Images, Images, Tensor]:
            steps = step.tolist()
            rows = {name: image[samples] for name, image in subject.inputs.items()}
            disturbed = draw_step_noise(rows, self.seed, steps, self.noise) if self.noise else {}
            points, factors = {}, {}
            for name, image in rows.items():
                given = [starts[int(choices[one])][name][sample] for one, sample in zip(steps, samples, strict=True)]
                start = torch.stack(given)
                factors[name] = image + disturbed.get(name, 0) - start
                share = shares[step.cpu()].to(image).reshape(-1, *[1] * (image.ndim - 1))
                points[name] = start + share * factors[name]
            return points, factors, torch.full((len(steps),), 1 / self.samples)

        results = sum_along_path(subject, targets, self.samples, self.budget.gradient_rows(subject), draw)
        start_scores = self._mean_scores(subject, starts, choices)
        return [
            Attribution(
                maps=maps,
                completeness=compute_completeness_error(
                    maps, subject.target_scores(scores, target), subject.target_scores(start_scores, target)
                ),
            )
            for maps, target in zip(results, targets, strict=True)
        ]

    @torch.no_grad()
    def _mean_scores(self, subject: ExplainedModel, starts: list[Images], choices: Tensor) -> Tensor:
        """Compute the mean scores [B, K] of the drawn baselines."""
        counts = torch.bincount(choices, minlength=len(starts)).tolist()
        means = [
            subject.scores(start) * (count / self.samples) for start, count in zip(starts, counts, strict=True) if count
        ]
        return torch.stack(means).sum(dim=0)
