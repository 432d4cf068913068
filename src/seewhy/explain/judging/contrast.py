"""Contrast test: compare maps of one class with maps of other classes of the same case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.errors import ExplanationError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import Inputs
from seewhy.explain.judging.perturbation import take_first
from seewhy.explain.judging.similarity import correlate_rows, finite_mean, join_maps, rank_rows, subsample
from seewhy.explain.maps import Maps, Reading
from seewhy.explain.targets import find_runner_up

__all__ = ["ClassContrast", "ContrastTest"]

ALIKE = 0.7
LEAST = 3  # cases
# Measured on tf_efficientnet_lite0 with ImageNet weights, means over three photographs: rank correlation of the
# evidence for the predicted class with the runner-up's, with the least likely class's, and between re-initialised
# networks: Grad-CAM, HiResCAM and XGrad-CAM 0.84, -0.11, 0.01; FinerCAM -0.60, -0.15, -0.05; saliency 0.45, 0.43,
# 0.39; input x gradient 0.23, -0.11, 0.02; DeepLIFT 0.53, -0.37, 0.03; integrated gradients 0.23, -0.05, 0.04; but
# Grad-CAM++ 0.95, 0.96, 0.81; LayerCAM 0.95, 0.97, 0.85; EigenCAM 1, 1, 0.87; ScoreCAM (64 channels) 0.82, 0.85,
# 0.89; maps without a network 1, 1, 1. A runner-up cannot decide: palace and bell cote share their evidence, so
# Grad-CAM's maps of the two are rightly alike, and far more than maps of re-initialised networks. The least likely
# class separates the methods.


@dataclass(frozen=True, kw_only=True)
class ClassContrast:
    """Similarity of the maps of different classes of the same case.

    Attributes:
        runner_up: [N] rank correlation of the evidence for the target with that for the class of next highest score.
        least: [N] the same for the class of the lowest score, which has the least in common with the target.
        redraws: [N] rank correlation between the evidence for the target of different re-initialised networks: how
            alike the method's maps are if they have nothing in common; NaN with a single network.
        reading: of the maps. A magnitude may be the same for and against a class, so it cannot fail.
    """

    runner_up: np.ndarray
    least: np.ndarray
    redraws: np.ndarray
    reading: Reading = "positive"

    @property
    def excess(self) -> tuple[float, float, float]:
        """Mean over cases of `least` minus `redraws`, with its 90 % bootstrap interval over cases; NaN if unknown."""
        gaps = self.least - self.redraws
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps) < LEAST:
            return (float("nan"),) * 3
        means = gaps[np.random.default_rng(0).integers(0, len(gaps), size=(1000, len(gaps)))].mean(axis=1)
        low, high = np.quantile(means, [0.05, 0.95])
        return float(gaps.mean()), float(low), float(high)

    @property
    def passes(self) -> bool | None:
        """Whether the method tells classes apart; None for too few cases, and for magnitudes that are alike."""
        known = np.isfinite(self.least)
        if not known.any():
            return None
        if self._alike():
            return None if self.reading == "magnitude" else False
        return True if known.sum() >= LEAST else None

    @property
    def failures(self) -> list[str]:
        """Reason why the method fails; empty if it does not.

        A method fails if its maps of the target and of the least likely class are alike (mean above 0.7), unless they
        clearly differ more than maps of the target differ over re-initialised networks.
        """
        if self.passes is not False:
            return []
        level = finite_mean(self.redraws)
        reference = "" if np.isnan(level) else f"; re-initialised networks {level:.2f}"
        return [
            f"the maps hardly depend on the class: rank correlation {finite_mean(self.least):.2f} with the least "
            f"likely class (runner-up {finite_mean(self.runner_up):.2f}{reference})"
        ]

    def _alike(self) -> bool:
        differs_more = self.excess[2] < 0  # false for NaN
        return finite_mean(self.least) > ALIKE and not differs_more


class ContrastTest:
    """Contrast test (random logits: Sixt 2020, section 5) on the first cases of a run, batch by batch.

    Compares the evidence for the target with the evidence for the runner-up and for the least likely class. A map
    that is the same for all classes shows where a network looks, not why it predicts one class and not another. An
    empty map has similarity 0 to a map with evidence. Maps that explain a contrast already are not tested.

    Args:
        explainer: the method that made the maps.
        cases: number of cases to test.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ContrastTest, EigenCAM, HiResCAM
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
        >>> images = torch.rand(4, 1, 8, 8)
        >>> for explainer in (EigenCAM(layers="1"), HiResCAM(layers="1")):
        ...     test = ContrastTest(explainer)
        ...     rows = test.add(net, images, explainer(net, images))
        ...     print(explainer.method, test.result().passes)
        eigen_cam False
        hires_cam True
    """

    def __init__(self, explainer: Explainer, *, cases: int = 8) -> None:
        self.explainer = explainer
        self.cases = cases
        self._rows: list[dict[str, float]] = []

    def add(
        self, module: nn.Module, inputs: Inputs, maps: Maps, redraws: Sequence[float] = ()
    ) -> list[dict[str, float]]:
        """Test the samples of a batch, up to the number of cases.

        Args:
            module: the trained module.
            inputs: the batch.
            maps: the explainer's maps of the batch.
            redraws: level of each sample, see `ClassContrast`; NaN for samples without one.

        Returns:
            For each tested sample in order: `runner_up` and `least`; NaN where the method refuses the other class, or
            the maps explain a contrast.
        """
        count = min(self.cases - len(self._rows), len(maps.target))
        if count <= 0:
            return []
        maps = maps[:count]
        compared = self._compare(module, take_first(inputs, count), maps)
        rows = [{name: float(values[row]) for name, values in compared.items()} for row in range(count)]
        levels = [*redraws, *[float("nan")] * count][:count]
        self._rows += [{**row, "redraws": level} for row, level in zip(rows, levels, strict=True)]
        return rows

    def result(self) -> ClassContrast | None:
        """Return the result of all tested cases; None if no case was tested."""
        if not self._rows:
            return None
        columns = {name: np.array([row[name] for row in self._rows]) for name in self._rows[0]}
        return ClassContrast(reading=self.explainer.reading, **columns)

    def _compare(self, module: nn.Module, inputs: Inputs, maps: Maps) -> dict[str, Tensor]:
        """Compute the rank correlation with the maps of both other classes, [B] each."""
        unknown = torch.full((len(maps.target),), float("nan"), dtype=torch.float64)
        if maps.reference is not None:
            return {"runner_up": unknown, "least": unknown}
        target, scores = maps.target, maps.scores
        runner_up = find_runner_up(scores, target)
        least = runner_up if scores.shape[1] == 1 else scores.scatter(1, target[:, None], torch.inf).argmin(dim=1)
        others = [runner_up] if torch.equal(runner_up, least) else [runner_up, least]
        try:
            made = self.explainer.for_targets(module, inputs, others)
        except ExplanationError:
            return {"runner_up": unknown, "least": unknown}
        own = subsample(join_maps(maps.evidence()))
        ranks = rank_rows(own)
        alike = [_correlate(own, ranks, subsample(join_maps(other.evidence())).to(own)) for other in made]
        return {"runner_up": alike[0].cpu(), "least": alike[-1].cpu()}


def _correlate(own: Tensor, ranks: Tensor, other: Tensor) -> Tensor:
    """Compute rank correlations [B]; 0 if only the other map is empty."""
    empty = (other.amax(dim=1) == other.amin(dim=1)) & (own.amax(dim=1) > own.amin(dim=1))
    return torch.where(empty, 0.0, correlate_rows(ranks, rank_rows(other)))
