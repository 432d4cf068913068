"""Predicted probabilities of cases: temperature, calibration error of chance alone, ROC and precision-recall curves."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

from seewhy.metrics.classification.measures import expected_calibration_error
from seewhy.probability import calibrated_probability, two_sided_scores

__all__ = [
    "calibrated_probability",
    "fit_temperature",
    "ideal_calibration_error",
    "precision_recall_points",
    "roc_points",
]

LIMITS = (0.05, 20.0)
"""Range of a fitted temperature."""


@torch.no_grad()
def fit_temperature(logits: Tensor, label: Tensor) -> float:
    """Fit the temperature that maximises the likelihood of the labels (Guo 2017, section 4.2), between 0.05 and 20.

    L-BFGS in float64 on the CPU gives the same result on all ranks of a distributed run. A prior worth about one case
    (log T normal around 0) keeps the temperature finite if every prediction is correct; with hundreds of cases it has
    no effect.

    Args:
        logits: [N, K] raw scores.
        label: [N] class indices.

    Returns:
        The temperature; 1 without cases.

    Example:
        >>> overconfident = torch.tensor([[0.0, 9.0], [0.0, 9.0], [0.0, 9.0], [9.0, 0.0]])
        >>> fit_temperature(overconfident, torch.tensor([1, 1, 0, 0])) > 2
        True
    """
    if not len(label):
        return 1.0
    # Validation runs in inference mode, whose tensors allow no gradient; hence the clones outside of it.
    with torch.inference_mode(False), torch.enable_grad():
        scores = two_sided_scores(logits.detach().double().cpu().clone())
        truth = label.detach().long().cpu().clone()
        log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([log_t], max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            # The mean keeps the gradients in the range that the line search expects.
            value = F.cross_entropy(scores / log_t.exp(), truth) + 0.5 * log_t.square() / len(truth)
            torch.autograd.backward(value)
            return value

        optimizer.step(loss)
        temperature = math.exp(float(log_t.detach()))
    return min(max(temperature, LIMITS[0]), LIMITS[1]) if math.isfinite(temperature) else 1.0


def ideal_calibration_error(probability: NDArray[np.float64], *, draws: int = 200, seed: int = 0) -> float:
    """Mean calibration error of these predictions if they were perfectly calibrated.

    Labels are drawn from the predicted probabilities themselves. The error on real labels is to be compared with this
    value, which is well above 0 with few cases.

    Args:
        probability: [N, C] in [0, 1], rows sum to 1.
        draws: number of label sets drawn.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    edges = probability.cumsum(axis=1)[:, :-1]
    errors = [
        expected_calibration_error(probability, (rng.random((len(probability), 1)) > edges).sum(axis=1))[0]
        for _ in range(draws)
    ]
    return float(np.mean(errors))


Points = tuple[NDArray[np.float64], NDArray[np.float64]]
MOST = 200
"""Points of a curve."""


def roc_points(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> Points | None:
    """False positive rate and true positive rate at every threshold; None without both classes.

    Args:
        truth: [N] bool.
        probability: [N] of being true.

    Example:
        >>> rates = roc_points(np.array([False, True]), np.array([0.2, 0.7]))
        >>> [values.tolist() for values in rates]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    if truth.all() or not truth.any():
        return None
    false_rate, true_rate, _ = binary_roc(torch.from_numpy(probability), torch.from_numpy(truth).long())
    return _thin(false_rate.double().numpy(), true_rate.double().numpy())


def precision_recall_points(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> Points | None:
    """Recall and precision at every threshold, from recall 0 to 1; None without both classes.

    Args:
        truth: [N] bool.
        probability: [N] of being true.
    """
    if truth.all() or not truth.any():
        return None
    precision, recall, _ = binary_precision_recall_curve(torch.from_numpy(probability), torch.from_numpy(truth).long())
    return _thin(recall.flip(0).double().numpy(), precision.flip(0).double().numpy())


def _thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """At most `MOST` points, the first and the last among them."""
    if len(x) <= MOST:
        return x, y
    chosen = np.linspace(0, len(x) - 1, MOST).round().astype(int)
    return x[chosen], y[chosen]
