"""ROC and precision-recall curves of one class, with few enough points to draw."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

__all__ = ["precision_recall_points", "roc_points"]

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
