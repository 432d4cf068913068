"""Measures of localisation by rank and by mass, against masks; chance is the mask's share of the area."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.judging.localization import join_masks, measure_localization
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps

__all__ = ["compute_relevance_mass_accuracy", "compute_relevance_rank_accuracy", "compute_top_k_intersection"]

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
