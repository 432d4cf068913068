"""Probability of every class from raw scores: calibrated, for a softmax, one logit, or one sigmoid per class."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["calibrated_probability", "two_sided_scores"]


def calibrated_probability(logits: Tensor, temperature: Tensor | float = 1.0, *, multi_label: bool = False) -> Tensor:
    """Probability of every class, the softmax of logits / temperature (Guo 2017).

    Every table, picture and score of a map takes a model's probability from here.

    Args:
        logits: [B, K] raw scores; K = 1 is one logit of two classes, whose sigmoid is the probability of class 1.
        temperature: values above 1 make probabilities less certain; the order of the classes does not change.
        multi_label: the classes do not exclude each other, so each of several columns has its own sigmoid.

    Returns:
        [B, K], or [B, 2] for K = 1.

    Example:
        >>> logits = torch.tensor([[0.0, 2.0]])
        >>> calibrated_probability(logits)
        tensor([[0.1192, 0.8808]])
        >>> calibrated_probability(logits, temperature=2.0)
        tensor([[0.2689, 0.7311]])
        >>> calibrated_probability(logits, multi_label=True)
        tensor([[0.5000, 0.8808]])
    """
    if multi_label and logits.shape[1] > 1:
        return torch.sigmoid(logits.float() / temperature)
    return torch.softmax(two_sided_scores(logits.float()) / temperature, dim=1)


def two_sided_scores(logits: Tensor) -> Tensor:
    """Scores [B, 2] of two classes from a single logit [B, 1]; others unchanged."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
