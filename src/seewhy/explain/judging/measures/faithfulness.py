"""Measures of faithfulness: does the score change with what is removed as the map states?

Each removes pixels or square regions of all inputs in one order and measures the target. Defaults give the values of
Quantus 0.6 (Hedström 2023) for the same map; where Quantus differs from the paper, the function states it. Measures
that add up a map (infidelity, sensitivity-n) take the raw score, which maps explain; Quantus' `softmax=False`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import Fill, make_generators
from seewhy.explain.judging.removal import Output, Removal, number_regions, rank_shuffled
from seewhy.explain.judging.similarity import correlation, join_maps
from seewhy.explain.maps import Maps

__all__ = [
    "measure_infidelity",
    "measure_monotonicity",
    "measure_region_perturbation",
    "measure_selectivity",
    "measure_sensitivity_n",
    "measure_sensitivity_n_over_batch",
]


def measure_infidelity(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    patch: int = 4,
    nested: bool = True,
    scaled: bool = False,
    fill: Fill = "black",
    output: Output = "score",
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure the mean squared error of the changes that the signed map predicts (Yeh 2019, definition 2.1).

    The change that the map predicts for an image x̃ is Σ map · (x − x̃), which is compared with f(x) − f(x̃).

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        patch: side of the removed regions, in pixels.
        nested: also remove all regions before each one, row by row, as Quantus does; False removes each region alone
            (the square removal of the paper).
        scaled: multiply the map by the factor that fits best, and divide by the mean squared change: the share of
            the changes, in [0, 1], that the map does not predict at any scale. Only this compares methods whose units
            differ, e.g. CAMs with gradients.
        fill: value of removed pixels.
        output: what is measured of the target.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [B] float64, lower is better; with `scaled`, NaN where nothing changes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import Saliency
        >>> from seewhy.explain.judging import measure_infidelity
        >>> net, image = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.rand(2, 1, 8, 8)
        >>> measure_infidelity(net, image, Saliency()(net, image, target=1)).round(decimals=6)
        tensor([0., 0.], dtype=torch.float64)
    """
    removal, count, regions = _prepare(module, inputs, maps, patch, fill, budget, output)
    spans = [(0, 0)] + [(0 if nested else number, number + 1) for number in range(count)]
    values = _measure(removal, regions.expand(len(maps.target), -1), spans)
    change = (values[:, :1] - values[:, 1:]).double()
    predicted = _sum_regions(_join(maps.maps, removal) * removal.changes(), regions, count).double()
    if nested:
        predicted = predicted.cumsum(dim=1)
    if not scaled:
        return (change - predicted).square().mean(dim=1).cpu()
    factor = (change * predicted).sum(dim=1, keepdim=True) / predicted.square().sum(dim=1, keepdim=True)
    missed = (change - factor.nan_to_num(0) * predicted).square().sum(dim=1)
    return (missed / change.square().sum(dim=1)).cpu()


def measure_monotonicity(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    features_in_step: int = 1,
    fill: Fill = "black",
    output: Output = "probability",
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure whether the score never falls while pixels are restored, the least important first (Arya 2019).

    Quantus 0.6 replaces pixels of the filled image by the same fill, so its curve is constant and its result always
    true; here the pixels of the image are restored, as in the paper.

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        features_in_step: pixels restored at once.
        fill: value of removed pixels.
        output: what is measured of the target.
        seed: seed of the order among equal pixels.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [B] bool.
    """
    removal = _make_removal(module, inputs, maps, fill, budget, output)
    ranks = _rank(_join(maps.evidence(), removal), removal, seed)
    kept = range(features_in_step, removal.pixels + features_in_step, features_in_step)
    values = _measure(removal, ranks, [(0, max(removal.pixels - count, 0)) for count in kept])
    return (values.diff(dim=1) >= 0).all(dim=1).cpu()


def measure_sensitivity_n(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    shares: Sequence[float] = (0.1, 0.3, 0.5, 0.7),
    subsets: int = 16,
    fill: Fill = "black",
    output: Output = "score",
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure the correlation of a random subset's sum in the signed map with the fall of the score (Ancona 2018).

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        shares: sizes n of the subsets, as shares of the pixels.
        subsets: number of random subsets of each size.
        fill: value of removed pixels.
        output: what is measured of the target.
        seed: seed of the subsets, together with the content of each sample.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [B] float64 in [-1, 1], mean over the sizes; NaN where the map or the score does not change.
    """
    removal = _make_removal(module, inputs, maps, fill, budget, output)
    sources = make_generators(removal.subject.inputs, seed=seed)
    counts = [max(round(share * removal.pixels), 1) for share in shares]
    values = _join(maps.maps, removal)
    falls, sums = [], []
    for _ in range(subsets):
        drawn = torch.stack([torch.randperm(removal.pixels, generator=source) for source in sources])
        ranks = drawn.to(removal.device)
        measured = _measure(removal, ranks, [(0, 0), *((0, count) for count in counts)])
        falls.append((measured[:, :1] - measured[:, 1:]).double().cpu())
        sums.append(torch.stack([(values * (ranks < count)).double().sum(dim=1) for count in counts], dim=1).cpu())
    fall, total = torch.stack(falls), torch.stack(sums)  # [subsets, B, sizes]
    every = [
        torch.stack([correlation(fall[:, row, size], total[:, row, size]) for size in range(len(counts))])
        for row in range(fall.shape[1])
    ]
    return torch.stack(every).nanmean(dim=1)


def measure_sensitivity_n_over_batch(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    features_in_step: int = 1,
    most: float = 0.8,
    fill: Fill = "black",
    output: Output = "probability",
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure sensitivity-n as Quantus 0.6 does: over the samples of the batch instead of over subsets of a sample.

    The signed map's highest pixels are removed step by step. For each step the fall of the score since the start is
    correlated, over samples, with the map's sum over the pixels of this step. `measure_sensitivity_n` is the measure
    of the paper.

    Args:
        module: the explained module.
        inputs: the batch, at least two samples.
        maps: the maps to judge.
        features_in_step: pixels removed at once.
        most: share of the pixels up to which steps count.
        fill: value of removed pixels.
        output: what is measured of the target.
        seed: seed of the order among equal pixels.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [steps] float64, one correlation for each step.
    """
    removal = _make_removal(module, inputs, maps, fill, budget, output)
    values = _join(maps.maps, removal)
    ranks = _rank(values, removal, seed)
    steps = int(most * removal.pixels // features_in_step)
    edges = [(step * features_in_step, (step + 1) * features_in_step) for step in range(steps)]
    measured = _measure(removal, ranks, [(0, 0), *((0, stop) for _, stop in edges)])
    falls = (measured[:, :1] - measured[:, 1:]).double().cpu()
    parts = [(values * ((ranks >= low) & (ranks < high))).double().sum(dim=1) for low, high in edges]
    sums = torch.stack(parts, dim=1).cpu()
    return torch.stack([correlation(falls[:, step], sums[:, step]) for step in range(steps)])


def measure_selectivity(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    patch: int = 8,
    fill: Fill = "black",
    output: Output = "probability",
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure the target while regions are removed, those with the most evidence first (Montavon 2018).

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        patch: side of the regions, in pixels.
        fill: value of removed pixels.
        output: what is measured of the target.
        seed: seed of the order among equal regions.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [B, regions], after one region, two, …, all; a low mean is better.
    """
    removal, count, regions = _prepare(module, inputs, maps, patch, fill, budget, output)
    order = _rank_regions(maps, removal, regions, count, seed, least_first=False)
    return _measure(removal, order, [(0, number + 1) for number in range(count)]).cpu()


def measure_region_perturbation(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    patch: int = 8,
    most: int = 100,
    order: Literal["morf", "lerf"] = "morf",
    fill: Fill = "black",
    output: Output = "probability",
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure the fall of the target while regions are removed (Samek 2017).

    The mean over steps is the paper's area over the perturbation curve (AOPC, without its first term, which is 0).

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        patch: side of the regions, in pixels.
        most: largest number of removed regions.
        order: `morf` removes those with the most evidence first, `lerf` those with the least.
        fill: value of removed pixels.
        output: what is measured of the target.
        seed: seed of the order among equal regions.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [B, steps]; a high mean is better for `morf`.
    """
    if order not in ("morf", "lerf"):
        raise ConfigError(f"order={order!r}; expected morf (most relevant first) or lerf (least relevant first)")
    removal, count, regions = _prepare(module, inputs, maps, patch, fill, budget, output)
    ranks = _rank_regions(maps, removal, regions, count, seed, least_first=order == "lerf")
    values = _measure(removal, ranks, [(0, number) for number in range(min(most, count) + 1)])
    return (values[:, :1] - values[:, 1:]).cpu()


def _make_removal(
    module: nn.Module, inputs: Inputs, maps: Maps, fill: Fill, budget: MemoryBudget | None, output: Output
) -> Removal:
    return Removal(ExplainedModel(module, inputs), maps.explained, fill, budget=budget, output=output)


def _prepare(module: nn.Module, inputs: Inputs, maps: Maps, patch: int, *options: Any) -> tuple[Removal, int, Tensor]:
    """Return the removal, the number of regions, and the region of each pixel, [P]."""
    if patch < 1:
        raise ConfigError(f"patch={patch}; expected at least 1 pixel")
    removal = _make_removal(module, inputs, maps, *options)
    regions = number_regions(removal.subject.inputs, patch)
    return removal, int(regions[-1]) + 1, regions


def _measure(removal: Removal, ranks: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    with keep_unchanged(removal.subject.module):
        return removal.measure(ranks, spans)


def _join(maps: dict[str, Tensor], removal: Removal) -> Tensor:
    """Join maps to [B, P] in the order of the removal's inputs."""
    return join_maps({name: maps[name] for name in removal.sizes}).to(removal.device)


def _rank(values: Tensor, removal: Removal, seed: int) -> Tensor:
    """Rank each column by decreasing value, [B, n]; the order of equal ones depends on the seed and the sample."""
    return rank_shuffled(values, make_generators(removal.subject.inputs, seed=seed))


def _sum_regions(values: Tensor, regions: Tensor, count: int) -> Tensor:
    """Sum values [B, P] over each region, [B, count]."""
    return values.new_zeros(len(values), count).index_add_(1, regions, values)


def _rank_regions(maps: Maps, removal: Removal, regions: Tensor, count: int, seed: int, *, least_first: bool) -> Tensor:
    """Return the rank of each pixel's region by its evidence, [B, P]."""
    sums = _sum_regions(_join(maps.evidence(), removal).double(), regions, count)
    return _rank(-sums if least_first else sums, removal, seed)[:, regions]
