"""Randomisation test: compare maps of the trained network with maps of re-initialised networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.errors import ExplanationError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.localization import measure_localization
from seewhy.explain.judging.perturbation import take_first
from seewhy.explain.judging.reinitialization import find_head, reinitialize
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.judging.similarity import (
    correlate_rows,
    correlation,
    finite_mean,
    join_maps,
    rank_rows,
    structural_similarity,
    subsample,
)
from seewhy.explain.maps import Maps

__all__ = ["LOCATED", "Randomization", "RandomizationTest"]

COMPARED = ("net", "head", "net_ssim", "head_ssim", "vanished")
NEGLIGIBLE = 0.3
ALIKE = 0.7
BLIND = 0.95
LEAST = 3  # cases
LOCATED = ("pointing", "energy", "auprc")
"""Scores of localisation that are also computed for the maps of re-initialised networks, if masks are given."""
# Measured on four trained small networks, with and without batch normalisation, 8 images, 5 draws: rank correlation
# with the re-initialised network (random pairs) of Grad-CAM 0.08 to 0.21 (0.30 to 0.42), saliency 0.10 to 0.15
# (0.19 to 0.42), integrated gradients 0.03 to 0.14 (0.00 to 0.05), input x gradient 0.04 to 0.10 (0.01 to 0.05), but
# EigenCAM 0.66 to 0.78 (0.35 to 0.55), guided backpropagation, known to fail (Adebayo 2018), 0.52 to 0.59 (0.04 to
# 0.21), an edge map 1 (0.27), a constant map 1 (1). With the re-initialised head alone: saliency 0.79 to 0.88,
# EigenCAM 1. By the rule below, over 27 combinations of network, images and draws, none of the first four ever failed,
# and EigenCAM and the maps without a network always did.


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """Similarity of the maps to those of re-initialised networks, and of the maps of different cases to each other.

    Attributes:
        net: [N] mean rank correlation with maps of re-initialised networks, of the same case and target.
        head: [N] the same for re-initialised heads on the trained features.
        pairs: [N, N] rank correlation between the trained network's maps of different cases; NaN on the diagonal
            and for maps of different sizes.
        net_ssim: [N] structural similarity instead of rank correlation, for the table only: empty background makes it
            high.
        head_ssim: [N] structural similarity for re-initialised heads.
        vanished: share of the re-initialised networks' maps that are empty, in [0, 1].
    """

    net: np.ndarray
    head: np.ndarray
    pairs: np.ndarray
    net_ssim: np.ndarray
    head_ssim: np.ndarray
    vanished: float

    @property
    def excess(self) -> tuple[float, float, float]:
        """Mean over cases of `net` minus the level of random pairs, with its 90 % bootstrap interval over cases.

        NaN with fewer than three cases, or without pairs.
        """
        count = len(self.net)
        if count < LEAST or not np.isfinite(self.pairs).any():
            return (float("nan"),) * 3
        draws = np.random.default_rng(0).integers(0, count, size=(1000, count))
        low, high = np.nanquantile([self._excess(rows) for rows in draws], [0.05, 0.95])
        return self._excess(np.arange(count)), float(low), float(high)

    @property
    def passes(self) -> bool | None:
        """Whether the method passes the test; None if the test is inconclusive.

        It is inconclusive if all re-initialised maps are empty, or with fewer than three cases that do not fail.
        """
        if self.vanished == 1.0 or not np.isfinite(self.net).any():
            return None
        return False if self.failures else (True if len(self.net) >= LEAST else None)

    @property
    def failures(self) -> list[str]:
        """Reasons why the method fails, one sentence each; empty if it passes.

        A method fails if maps of re-initialised networks are more similar to the trained network's maps than maps of
        different cases are to each other (the lower bound of the excess is above 0), by more than a negligible
        correlation (above 0.3); or if they are similar (above 0.7) in any case, since the pairs of a map that is
        always the same are just as similar; or if a re-initialised head hardly changes them (above 0.95).
        """
        net, level, head = finite_mean(self.net), finite_mean(self.pairs), finite_mean(self.head)
        reasons = []
        if net > ALIKE or (net > NEGLIGIBLE and self.excess[1] > 0):
            reference = "" if np.isnan(level) else f" (different cases {level:.2f})"
            reasons.append(
                f"the maps hardly depend on what was learned: rank correlation {net:.2f} with a re-initialised "
                f"network{reference}"
            )
        if head > BLIND:
            reasons.append(
                f"the maps do not depend on the head: rank correlation {head:.2f} with a re-initialised head"
            )
        return reasons

    def _excess(self, rows: np.ndarray) -> float:
        return finite_mean(self.net[rows]) - finite_mean(self.pairs[np.ix_(rows, rows)])


class RandomizationTest:
    """Randomisation test (Adebayo 2018) on the first cases of a run, batch by batch.

    Compares the evidence, not the signed maps, because readers see the evidence. The ranks of the cases' maps are
    stored on the CPU for the level of random pairs (Arun 2021). An empty map of a re-initialised network has
    similarity 0.

    Args:
        explainer: the method that made the maps.
        cases: number of cases to test.
        draws: re-initialised networks per case; a single one may resemble the trained one by chance.
        heads: re-initialised heads per case.
        seed: seed of the draws; all batches use the same weights.
        shared: keeps the drawn weights for the tests of other methods on the same batch.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import EigenCAM, RandomizationTest
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> images, explainer = torch.rand(4, 1, 8, 8), EigenCAM(layers="1")
        >>> test = RandomizationTest(explainer, draws=2)
        >>> rows = test.add(net, images, explainer(net, images))
        >>> len(rows), test.result().passes  # EigenCAM does not depend on the head
        (4, False)
    """

    def __init__(
        self,
        explainer: Explainer,
        *,
        cases: int = 8,
        draws: int = 3,
        heads: int = 1,
        seed: int = 0,
        shared: SharedWork | None = None,
    ) -> None:
        self.explainer = explainer
        self.cases = cases
        self.draws = draws
        self.heads = heads
        self.seed = seed
        self.shared = shared or SharedWork()
        self._ranks: list[tuple[object, Tensor]] = []  # shapes and ranks of each case's map
        self._rows: list[dict[str, float]] = []

    def add(
        self,
        module: nn.Module,
        inputs: Inputs,
        maps: Maps,
        masks: Tensor | Mapping[str, Tensor] | None = None,
    ) -> list[dict[str, float]]:
        """Test the samples of a batch, up to the number of cases.

        Args:
            module: the trained module; it is restored afterwards.
            inputs: the batch.
            maps: the explainer's maps of the batch.
            masks: see `measure_localization`; with masks, the maps of the re-initialised networks are scored, too.

        Returns:
            For each tested sample in order: `net`, `head` (rank correlation), `net_ssim`, `head_ssim`, and `vanished`,
            the share of re-initialised networks whose map is empty; `redraws`, the rank correlation between the maps
            of different re-initialised networks. With masks also `pointing`, `energy` and `auprc`
            of the re-initialised networks' maps, means over the draws; NaN for samples without a mask.
        """
        count = min(self.cases - len(self._rows), len(maps.target))
        if count <= 0:
            return []
        inputs, maps = take_first(inputs, count), maps[:count]
        masks = None if masks is None else take_first(masks, count)  # type: ignore[assignment]
        subject = ExplainedModel(module, inputs)
        # A method may raise an error for a re-initialised network; such draws are ignored.
        own = rank_rows(subsample(join_maps(maps.evidence())))
        draws = [self._compare(subject, None, inputs, maps, own, masks, draw) for draw in range(self.draws)]
        top = self._find_head(subject) if self.heads else None
        tops = [self._compare(subject, top, inputs, maps, own, None, draw) for draw in range(self.heads)]
        drawn = [draw.pop("ranks") for draw in draws if "ranks" in draw]
        alike = [{"redraws": correlate_rows(a, b).cpu()} for a, b in combinations(drawn, 2)]
        unknown = np.full(count, np.nan)
        table = {name: _column_means(draws, name) for name in draws[0]}
        for name in ("net", "net_ssim"):
            table[f"head{name.removeprefix('net')}"] = _column_means(tops, name) if tops else unknown
        table["redraws"] = _column_means(alike, "redraws") if alike else unknown
        rows = [{name: float(values[row]) for name, values in table.items()} for row in range(count)]
        shape = tuple(tuple(one.shape[1:]) for one in maps.maps.values())
        self._ranks += [(shape, ranks) for ranks in own.cpu()]
        self._rows += [{name: row[name] for name in COMPARED} for row in rows]
        return rows

    def result(self) -> Randomization | None:
        """Return the result of all tested cases; None if no case was tested."""
        if not self._rows:
            return None
        columns = {name: np.array([row[name] for row in self._rows]) for name in COMPARED}
        vanished = finite_mean(columns.pop("vanished"))
        return Randomization(pairs=self._compare_pairs(), vanished=vanished, **columns)

    def _find_head(self, subject: ExplainedModel) -> list[nn.Module]:
        return self.shared.of(subject.module, subject.everything).get("head", lambda: find_head(subject))

    def _compare(
        self,
        subject: ExplainedModel,
        parts: list[nn.Module] | None,
        inputs: Inputs,
        maps: Maps,
        own: Tensor,
        masks: Tensor | Mapping[str, Tensor] | None,
        draw: int,
    ) -> dict[str, Tensor]:
        """Compute rank correlation, SSIM, emptiness and (with masks) localisation of the maps of one draw, [B] each.

        If the whole network is re-initialised, also the ranks of the evidence [B, P]. `own` has those of the maps.
        """
        try:
            with reinitialize(subject, parts, seed=self.seed + draw, shared=self.shared):
                other = self.explainer(subject.module, inputs, target=maps.explained)
        except ExplanationError:
            unknown = torch.full((len(maps.target),), float("nan"), dtype=torch.float64)
            names = ("net", "net_ssim", "vanished", *(LOCATED if masks is not None else ()))
            return dict.fromkeys(names, unknown)
        located = {}
        if masks is not None:
            scores = measure_localization(other, masks)
            located = {"pointing": scores.pointing.cpu(), "energy": scores.energy.cpu(), "auprc": scores.auprc.cpu()}
        other_evidence = other.evidence()
        drawn = {name: other_evidence[name] for name in maps.maps}
        trained = {name: values.to(drawn[name].device) for name, values in maps.evidence().items()}
        empty = _is_constant(join_maps(drawn))
        ranks = rank_rows(subsample(join_maps(drawn)))
        correlations = correlate_rows(own.to(ranks.device), ranks)
        correlations = torch.where(empty & ~_is_constant(join_maps(trained)), 0.0, correlations)
        similarity = structural_similarity(trained, drawn).cpu()
        compared = {"net": correlations.cpu(), "net_ssim": similarity, "vanished": empty.double().cpu(), **located}
        return compared if parts is not None else {**compared, "ranks": ranks}

    def _compare_pairs(self) -> np.ndarray:
        level = np.full((len(self._ranks), len(self._ranks)), np.nan)
        for (i, (shape, ranks)), (j, (other, others)) in combinations(enumerate(self._ranks), 2):
            if shape == other:
                level[i, j] = level[j, i] = float(correlation(ranks, others))
        return level


def _is_constant(values: Tensor) -> Tensor:
    """Return [B], whether a row has a single value."""
    return values.amax(dim=1) == values.amin(dim=1)


def _column_means(draws: list[dict[str, Tensor]], name: str) -> np.ndarray:
    """Return the mean over draws of each sample, [B], without NaN."""
    return np.array([finite_mean(column) for column in torch.stack([draw[name] for draw in draws]).numpy().T])
