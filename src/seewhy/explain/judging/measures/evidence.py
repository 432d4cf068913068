"""Measures of evidence without another forward: its spread, its share inside masks, and decisions of similar maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.judging.localization import join_masks, measure_localization
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps
from seewhy.explain.targets import predict_classes

__all__ = [
    "compute_complexity",
    "compute_effective_complexity",
    "compute_relevance_mass_accuracy",
    "compute_relevance_rank_accuracy",
    "compute_sparseness",
    "compute_sufficiency",
    "compute_top_k_intersection",
]


def compute_sparseness(maps: Maps) -> Tensor:
    """Compute the Gini index of the evidence, [B] float64 (Chalasani 2020).

    0 if all pixels of all inputs are equal, near 1 if one has everything.

    Example:
        >>> import torch
        >>> from seewhy.explain import Maps
        >>> from seewhy.explain.judging import compute_sparseness
        >>> one = torch.zeros(1, 10, 10)
        >>> one[0, 3, 4] = 1
        >>> maps = Maps(method="x", maps={"image": one}, target=torch.tensor([0]), probability=torch.tensor([1.0]),
        ...             scores=torch.zeros(1, 2))
        >>> compute_sparseness(maps).round(decimals=3)
        tensor([0.9900], dtype=torch.float64)
    """
    values = (_scale_to_one(maps) + 1e-7).sort(dim=1).values
    count = values.shape[1]
    weights = 2 * torch.arange(1, count + 1, device=values.device, dtype=values.dtype) - count - 1
    return ((weights * values).sum(dim=1) / (count * values.sum(dim=1))).cpu()


def compute_complexity(maps: Maps) -> Tensor:
    """Compute the entropy of the evidence as shares of its sum, [B] float64 in nats (Bhatt 2020).

    0 if one pixel has everything, log P if all are equal; NaN without evidence.
    """
    values = join_maps(maps.evidence()).double()
    shares = values / values.sum(dim=1, keepdim=True)
    return -(shares * (shares + 1e-12).log()).sum(dim=1).cpu()


def compute_effective_complexity(maps: Maps, *, eps: float = 1e-5) -> Tensor:
    """Count the pixels with more evidence than a share `eps` of the highest, [B] float64 (Nguyen 2020).

    Quantus divides by the highest value of the batch; here each sample is divided by its own, so that its value does
    not depend on the others.
    """
    return (_scale_to_one(maps) > eps).sum(dim=1).double().cpu()


def _scale_to_one(maps: Maps) -> Tensor:
    """Divide the evidence of all inputs [B, P] by its highest value in each sample."""
    values = join_maps(maps.evidence()).double()
    return values / values.amax(dim=1, keepdim=True).clamp_min(1e-300)


Masks = Tensor | Mapping[str, Tensor]


def compute_top_k_intersection(maps: Maps, masks: Masks, *, k: int = 1000) -> Tensor:
    """Compute the share of the k highest pixels that lie inside the mask (Theiner 2021).

    Of equal pixels at the limit each counts with the share of them that is selected, so that a constant map has the
    mask's share of the area.

    Args:
        maps: the maps to judge.
        masks: see `measure_localization`.
        k: number of pixels over all inputs; all pixels if there are fewer.

    Returns:
        [B] float64 in [0, 1]; NaN for an empty mask.

    Raises:
        ConfigError: k below 1, or masks that do not fit.
    """
    if k < 1:
        raise ConfigError(f"k={k}; expected at least 1 pixel")
    values, inside = join_maps(maps.evidence()), join_masks(maps, masks)
    count = min(k, values.shape[1])
    return _share_of_highest(values, inside, torch.full((len(values),), count, device=values.device)).cpu()


def compute_relevance_rank_accuracy(maps: Maps, masks: Masks) -> Tensor:
    """Compute the top-k intersection with k = number of pixels of the mask, [B] float64 (Arras 2022).

    Args:
        maps: the maps to judge.
        masks: see `measure_localization`.

    Example:
        >>> import torch
        >>> from seewhy.explain import Maps
        >>> from seewhy.explain.judging import compute_relevance_rank_accuracy
        >>> maps = Maps(method="x", maps={"image": torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])},
        ...             target=torch.tensor([0]), probability=torch.tensor([1.0]), scores=torch.zeros(1, 2))
        >>> compute_relevance_rank_accuracy(maps, torch.tensor([[[1, 0], [1, 0]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    values, inside = join_maps(maps.evidence()), join_masks(maps, masks)
    return _share_of_highest(values, inside, inside.sum(dim=1)).cpu()


def compute_relevance_mass_accuracy(maps: Maps, masks: Masks) -> Tensor:
    """Compute the share of the evidence inside the mask, [B] float64 (Arras 2022); `energy` elsewhere."""
    return measure_localization(maps, masks).energy.cpu()


def _share_of_highest(values: Tensor, inside: Tensor, counts: Tensor) -> Tensor:
    result = []
    for row, mask, count in zip(values, inside, counts.tolist(), strict=True):
        if not count or not mask.any():
            result.append(row.new_tensor(float("nan"), dtype=torch.float64))
            continue
        limit = row.topk(count).values[-1]
        above, equal = row > limit, row == limit
        share = (count - above.sum()).double() / equal.sum()
        result.append(((above & mask).sum() + share * (equal & mask).sum()) / count)
    return torch.stack(result)


def compute_sufficiency(maps: Maps, *, threshold: float = 0.6) -> Tensor:
    """Compute the share of the samples with a similar map that have the same predicted class (Dasgupta 2022).

    Maps are similar if their distance, standardised in each pixel over the batch, is at most a share of the largest
    distance in the batch.

    Args:
        maps: of a batch; its samples are compared with each other.
        threshold: share of the largest distance.

    Returns:
        [B] float64 in [0, 1]; 0, as in Quantus, for a sample without any similar one.
    """
    values = join_maps(maps.evidence()).double().cpu()
    deviation = torch.cat([values, values]).std(dim=0)  # SciPy's, over both sets of a pairwise distance
    used = deviation > 0
    distances = torch.cdist(values[:, used] / deviation[used], values[:, used] / deviation[used])
    near = (distances <= threshold * distances.max()) & ~torch.eye(len(values), dtype=torch.bool)
    predicted = predict_classes(maps.scores).cpu()
    alike = near & (predicted[:, None] == predicted)
    return alike.sum(dim=1).double() / near.sum(dim=1).clamp_min(1)
