"""Probabilities that can be taken at their word: temperature scaling and how far off they are."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seewhy.metrics.classification.measures import expected_calibration_error

__all__ = ["calibrated_probability", "calibration_by_chance", "fit_temperature"]

LIMITS = (0.05, 20.0)
"""Range of a fitted temperature; beyond it scores are of no use either way."""


def calibrated_probability(logits: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Probability of every class, [B, K], or [B, 2] of a single logit: softmax of scores / temperature (Guo 2017).

    Args:
        logits: [B, K] raw scores; K = 1 is one logit of two classes, class 1 being its sigmoid.
        temperature: above 1 makes probabilities less certain; the order of the classes stays as it is.
    """
    return torch.softmax(_two_sided(logits.float()) / temperature, dim=1)


@torch.no_grad()
def fit_temperature(logits: Tensor, label: Tensor) -> float:
    """The temperature under which the labels are most likely (Guo 2017, section 4.2), between 0.05 and 20.

    Found by L-BFGS in float64 on the CPU, so that all ranks of a distributed run find the same. A prior worth
    about one case (log T normal around 0) keeps it finite where every case is told rightly; among hundreds of
    cases it does not count.

    Args:
        logits: [N, K] raw scores.
        label: [N] class indices.

    Returns:
        T; 1 without cases.
    """
    if not len(label):
        return 1.0
    # Cloned outside of inference mode, in which validation runs and no gradient exists.
    with torch.inference_mode(False), torch.enable_grad():
        scores = _two_sided(logits.detach().double().cpu().clone())
        truth = label.detach().long().cpu().clone()
        log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([log_t], max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            # The mean keeps gradients of the size that the line search expects.
            value = F.cross_entropy(scores / log_t.exp(), truth) + 0.5 * log_t.square() / len(truth)
            torch.autograd.backward(value)
            return value

        optimizer.step(loss)
        found = math.exp(float(log_t.detach()))
    return min(max(found, LIMITS[0]), LIMITS[1]) if math.isfinite(found) else 1.0


def calibration_by_chance(probability: NDArray[np.float64], *, draws: int = 200, seed: int = 0) -> float:
    """Mean calibration error that these predictions would have if they were perfectly calibrated.

    Labels are drawn from the predicted probabilities themselves. What is measured on real labels is to be held
    against this, for with few cases it is far from 0.

    Args:
        probability: [N, C] in [0, 1], rows sum to 1.
        draws: number of sets of labels drawn.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    edges = probability.cumsum(axis=1)[:, :-1]
    found = [
        expected_calibration_error(probability, (rng.random((len(probability), 1)) > edges).sum(axis=1))[0]
        for _ in range(draws)
    ]
    return float(np.mean(found))


def _two_sided(logits: Tensor) -> Tensor:
    """[B, 2] scores of one logit, of which only the difference counts; others as they are."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
