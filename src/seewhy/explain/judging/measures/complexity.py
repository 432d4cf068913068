"""Measures of complexity: over how many pixels is the evidence spread? They describe a map, without the network."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps

__all__ = ["compute_complexity", "compute_effective_complexity", "compute_sparseness"]


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
