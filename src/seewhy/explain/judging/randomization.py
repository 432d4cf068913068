"""The randomisation test: does a map change when what the network learned is taken away?"""

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
from seewhy.explain.judging.similarity import (
    average_ranks,
    correlation,
    join_maps,
    rank_correlation,
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
"""Scores of localisation that the maps of re-initialised networks get too, where masks are given."""
# Measured on four trained small networks, with and without batch normalisation, 8 images, 5 draws: rank correlation
# with the re-initialised network (random pairs) of Grad-CAM 0.08 to 0.21 (0.30 to 0.42), saliency 0.10 to 0.15
# (0.19 to 0.42), integrated gradients 0.03 to 0.14 (0.00 to 0.05), input x gradient 0.04 to 0.10 (0.01 to 0.05), but
# EigenCAM 0.66 to 0.78 (0.35 to 0.55), guided backpropagation, known to fail (Adebayo 2018), 0.52 to 0.59 (0.04 to
# 0.21), an edge map 1 (0.27), a constant map 1 (1). With the re-initialised head alone: saliency 0.79 to 0.88,
# EigenCAM 1. By the rule below, over 27 combinations of network, images and draws, none of the first four ever failed,
# and EigenCAM and the maps without a network always did.


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """How like the maps stay when weights are drawn anew, beside how like the maps of different cases are.

    Attributes:
        net: [N] mean rank correlation with maps of re-initialised networks, of the same case and target.
        head: [N] the same with re-initialised heads on the trained features.
        pairs: [N, N] rank correlation between the trained network's maps of different cases; NaN on the diagonal
            and where two maps have different sizes.
        net_ssim: [N] structural similarity in place of rank correlation, for the table; empty background alone makes
            it high, so nothing is decided by it.
        head_ssim: [N].
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
        """Mean over cases of `net` less the level of random pairs, with its 90 % bootstrap interval over cases.

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
        """Whether the test is passed; None where it says nothing.

        It says nothing where re-initialising leaves no maps, and with fewer than three cases, unless they fail.
        """
        if self.vanished == 1.0 or not np.isfinite(self.net).any():
            return None
        return False if self.failures else (True if len(self.net) >= LEAST else None)

    @property
    def failures(self) -> list[str]:
        """Why the method fails, a sentence each; none where it passes.

        It fails where the re-initialised network's maps are like the trained one's more than maps of different
        cases are like each other (the lower bound of the excess is above 0) and not negligibly so (above 0.3); or
        where they are alike (above 0.7) whatever pairs show, since a map that is the same for all cases has pairs
        as alike; or where a re-initialised head leaves them as they were (above 0.95).
        """
        net, level, top = _mean(self.net), _mean(self.pairs), _mean(self.head)
        found = []
        if net > ALIKE or (net > NEGLIGIBLE and self.excess[1] > 0):
            known = "" if np.isnan(level) else f" (different cases {level:.2f})"
            found.append(
                f"the maps hardly depend on what was learned: rank correlation {net:.2f} with a re-initialised "
                f"network{known}"
            )
        if top > BLIND:
            found.append(f"the maps do not depend on the head: rank correlation {top:.2f} with a re-initialised one")
        return found

    def _excess(self, rows: np.ndarray) -> float:
        return _mean(self.net[rows]) - _mean(self.pairs[np.ix_(rows, rows)])


class RandomizationTest:
    """Runs the randomisation test (Adebayo 2018) on the first cases of a run, batch by batch.

    Evidence is compared, not signed maps: what a reader sees. The ranks of the cases' maps are kept (on the CPU) for
    the level of random pairs (Arun 2021). A re-initialised map that is empty counts as unlike (0).

    Args:
        explainer: what made the maps.
        cases: number of cases to test.
        draws: re-initialised networks and heads per case; a single one may be like the trained one by luck.
        seed: of the draws, so that all batches meet the same weights.
    """

    def __init__(self, explainer: Explainer, *, cases: int = 8, draws: int = 3, seed: int = 0) -> None:
        self.explainer = explainer
        self.cases = cases
        self.draws = draws
        self.seed = seed
        self._kept: list[tuple[object, Tensor]] = []  # shapes and ranks of each case's map
        self._found: list[dict[str, float]] = []

    def add(
        self,
        module: nn.Module,
        inputs: Inputs,
        maps: Maps,
        masks: Tensor | Mapping[str, Tensor] | None = None,
    ) -> list[dict[str, float]]:
        """Test the samples of a batch that are still wanted.

        Args:
            module: the trained module; it is given back as it was.
            inputs: the batch.
            maps: what the explainer said of it.
            masks: as `localization` takes them; with masks, the maps of the re-initialised networks are located too.

        Returns:
            For each sample tested, first to last: `net`, `head` (rank correlation), `net_ssim`, `head_ssim`, and
            `vanished`, the share of re-initialised networks that leave its map empty. With masks also `pointing`,
            `energy` and `auprc` of the re-initialised networks' maps, means over the draws; NaN without a mask.
        """
        count = min(self.cases - len(self._found), len(maps.target))
        if count <= 0:
            return []
        inputs, maps = take_first(inputs, count), maps[:count]
        masks = None if masks is None else take_first(masks, count)  # type: ignore[assignment]
        subject = ExplainedModel(module, inputs)
        top = find_head(subject)
        # A method may refuse a re-initialised network; what it refuses is left out.
        draws = [self._compare(subject, None, inputs, maps, masks, draw) for draw in range(self.draws)]
        tops = [self._compare(subject, top, inputs, maps, None, draw) for draw in range(self.draws)]
        table = {name: _column_means(draws, name) for name in draws[0]}
        table |= {f"head{name.removeprefix('net')}": _column_means(tops, name) for name in ("net", "net_ssim")}
        rows = [{name: float(values[row]) for name, values in table.items()} for row in range(count)]
        shape = tuple(tuple(one.shape[1:]) for one in maps.maps.values())
        self._kept += [(shape, average_ranks(one)) for one in subsample(join_maps(maps.evidence())).cpu()]
        self._found += [{name: row[name] for name in COMPARED} for row in rows]
        return rows

    def result(self) -> Randomization | None:
        """What all tested cases show; None where there is none."""
        if not self._found:
            return None
        columns = {name: np.array([row[name] for row in self._found]) for name in COMPARED}
        vanished = _mean(columns.pop("vanished"))
        return Randomization(pairs=self._pairs(), vanished=vanished, **columns)

    def _compare(
        self,
        subject: ExplainedModel,
        parts: list[nn.Module] | None,
        inputs: Inputs,
        maps: Maps,
        masks: Tensor | Mapping[str, Tensor] | None,
        draw: int,
    ) -> dict[str, Tensor]:
        """Rank correlation, SSIM and emptiness of the maps of one draw, and with masks where they lie; [B] each."""
        try:
            with reinitialize(subject, parts, seed=self.seed + draw):
                other = self.explainer(subject.module, inputs, target=maps.target)
        except ExplanationError:
            unknown = torch.full((len(maps.target),), float("nan"), dtype=torch.float64)
            names = ("net", "net_ssim", "vanished", *(LOCATED if masks is not None else ()))
            return dict.fromkeys(names, unknown)
        where = None if masks is None else measure_localization(other, masks)
        located = {} if where is None else {name: getattr(where, name).cpu() for name in LOCATED}
        other_evidence = other.evidence()
        drawn = {name: other_evidence[name] for name in maps.maps}
        own = {name: one.to(drawn[name].device) for name, one in maps.evidence().items()}
        empty = _constant(join_maps(drawn))
        alike = rank_correlation(subsample(join_maps(own)), subsample(join_maps(drawn)))
        alike = torch.where(empty & ~_constant(join_maps(own)), 0.0, alike)
        similarity = structural_similarity(own, drawn).cpu()
        return {"net": alike.cpu(), "net_ssim": similarity, "vanished": empty.double().cpu(), **located}

    def _pairs(self) -> np.ndarray:
        level = np.full((len(self._kept), len(self._kept)), np.nan)
        for (i, (shape, ranks)), (j, (other, others)) in combinations(enumerate(self._kept), 2):
            if shape == other:
                level[i, j] = level[j, i] = float(correlation(ranks, others))
        return level


def _constant(values: Tensor) -> Tensor:
    """[B] whether a row has a single value."""
    return values.amax(dim=1) == values.amin(dim=1)


def _column_means(draws: list[dict[str, Tensor]], name: str) -> np.ndarray:
    """[B] mean over the draws in which it is known."""
    return np.array([_mean(column) for column in torch.stack([draw[name] for draw in draws]).numpy().T])


def _mean(values: np.ndarray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
