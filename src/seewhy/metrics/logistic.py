"""Logistic regression on a few features, deterministic and the same on every rank."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["fit_logistic"]


def fit_logistic(samples: Tensor, positive: Tensor, *, strength: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Fit a logistic regression to standardised features, as scikit-learn does with `class_weight="balanced"`.

    Args:
        samples: [N, D] features.
        positive: [N] bool, with samples of both kinds.
        strength: inverse of the penalty on squared weights (scikit-learn's C).

    Returns:
        [M, D] samples → [M] float64 log odds.

    Example:
        >>> samples = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> score = fit_logistic(samples, torch.tensor([False, False, True, True]))
        >>> (score(samples) > 0).tolist()
        [False, False, True, True]
    """
    # A test runs in inference mode, whose tensors cannot take part in a fit.
    with torch.inference_mode(False), torch.enable_grad():
        values, truth = samples.detach().clone().double(), positive.clone().double()
        mean, spread = values.mean(dim=0), values.std(dim=0, correction=0)
        spread = torch.where(spread > 1e-12, spread, 1.0)
        standard = (values - mean) / spread
        weight = torch.where(truth > 0, len(truth) / (2 * truth.sum()), len(truth) / (2 * (1 - truth).sum()))
        slopes = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device, requires_grad=True)
        offset = torch.zeros((), dtype=torch.float64, device=values.device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [slopes, offset], max_iter=200, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = standard @ slopes + offset
            loss = F.binary_cross_entropy_with_logits(logits, truth, weight=weight, reduction="sum")
            loss = strength * loss + slopes.square().sum() / 2
            loss.backward()
            return loss

        optimizer.step(closure)
    weights, shift = slopes.detach(), offset.detach()
    return lambda new: ((new.double() - mean) / spread) @ weights + shift
