"""Weights against rare classes: none, given, or from the number of training cases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["ClassWeights", "balanced_weights"]


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Weight N / (K · n_k) of each class: every class then weighs the same in all, and a case 1 on average.

    A class without cases counts as having one, so that its weight stays finite.
    """
    return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]


class ClassWeights(nn.Module):
    """One factor per class, kept with the checkpoint.

    Args:
        num_classes: how many.
        weights: None for ones, a list of factors, or `balanced`: ones until `balance` is called.

    Raises:
        ConfigError: another word, another number of factors, or one that is negative.
    """

    weight: Tensor

    def __init__(self, num_classes: int, weights: str | Sequence[float] | None) -> None:
        super().__init__()
        self.balanced = weights == "balanced"
        if weights is None or self.balanced:
            values = [1.0] * num_classes
        elif isinstance(weights, str):
            raise ConfigError(f"model.loss.class_weights={weights!r}; expected null, balanced or a list of factors")
        else:
            values = [float(weight) for weight in weights]
        if len(values) != num_classes or min(values) < 0:
            raise ConfigError(
                f"model.loss.class_weights={values}; expected {num_classes} factors ≥ 0, one for each class"
            )
        self.register_buffer("weight", torch.tensor(values))

    def balance(self, counts: Sequence[int]) -> list[int]:
        """Weigh classes by the number of their training cases; returns the classes that have none.

        Raises:
            ConfigError: not one count per class.
        """
        if len(counts) != len(self.weight):
            raise ConfigError(f"the data set has {len(counts)} classes, the model {len(self.weight)}")
        self.weight.copy_(torch.tensor(balanced_weights(counts)))
        return [k for k, count in enumerate(counts) if not count]

    def mean(self, losses: Tensor, label: Tensor) -> Tensor:
        """Mean of losses [B], each weighted by its class."""
        weight = self.weight.to(losses)[label]
        return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(losses.dtype).tiny)
