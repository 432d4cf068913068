"""Losses of case classification, by name: cross-entropy, focal, binary, and two for ordered grades.

All keep one softmax score per class (or one logit for two classes), so that predictions, calibration and explanations
are the same for every loss. (Losses that change the meaning of the scores, such as CORN, Shi 2023, whose K - 1 outputs
are conditional probabilities of passing each grade, would leave an explainer without a score of the class.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.options import call_problems, call_with_options, check_choice, choice_problems

__all__ = [
    "LOSSES",
    "BinaryLoss",
    "ClassWeights",
    "CrossEntropy",
    "EarthMoverLoss",
    "FocalLoss",
    "SoftOrdinalLoss",
    "balanced_weights",
    "build_loss",
    "find_loss_problems",
]


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Weight N / (K · n_k) of each class: all classes then have the same total weight, and a case has 1 on average.

    A class without cases is treated as if it had one, so that its weight stays finite.

    Example:
        >>> balanced_weights([30, 10])
        [0.6666666666666666, 2.0]
    """
    return [sum(counts) / (len(counts) * max(count, 1)) for count in counts]


class ClassWeights(nn.Module):
    """Base class of losses with one factor per class, which is stored in the checkpoint.

    Args:
        num_classes: number of classes.
        weights: None for ones, a list of factors, or `balanced`: ones until `balance` is called.

    Raises:
        ConfigError: an unknown word, a wrong number of factors, or a negative factor.
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
        """Weight classes by the number of their training cases; returns the classes without cases.

        Raises:
            ConfigError: the number of counts is not the number of classes.
        """
        if len(counts) != len(self.weight):
            raise ConfigError(f"the data set has {len(counts)} classes, the model {len(self.weight)}")
        self.weight.copy_(torch.tensor(balanced_weights(counts)))
        return [k for k, count in enumerate(counts) if not count]

    def mean(self, losses: Tensor, label: Tensor) -> Tensor:
        """Mean of losses [B], each weighted by its class."""
        weight = self.weight.to(losses)[label]
        return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(losses.dtype).tiny)


class CrossEntropy(ClassWeights):
    """Cross-entropy of softmax scores.

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        smoothing: share of the target that is spread over all classes.

    Example:
        >>> import torch
        >>> loss = CrossEntropy(num_classes=3)
        >>> round(float(loss(torch.zeros(2, 3), torch.tensor([0, 2]))), 4)  # log 3
        1.0986
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, smoothing: float = 0.0
    ) -> None:
        super().__init__(num_classes, class_weights)
        self.smoothing = _check_share("smoothing", smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        losses = F.cross_entropy(logits.float(), label, label_smoothing=self.smoothing, reduction="none")
        return self.mean(losses, label)


class FocalLoss(ClassWeights):
    """Cross-entropy that gives well-classified cases less weight: -(1 - p)^γ log p (Lin 2017, eq. 4).

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        gamma: γ ≥ 0; 0 is plain cross-entropy.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, gamma: float = 2.0
    ) -> None:
        super().__init__(num_classes, class_weights)
        if gamma < 0:
            raise ConfigError(f"model.loss.gamma={gamma} must be 0 or more")
        self.gamma = float(gamma)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        log_p = logits.float().log_softmax(dim=1).gather(1, label[:, None])[:, 0]
        # For p = 1, log p is 0, where a power below 1 would have no finite slope; -expm1 is exact near it.
        other = (-torch.expm1(log_p)).clamp(min=torch.finfo(torch.float32).tiny)
        return self.mean(-(other**self.gamma) * log_p, label)


class BinaryLoss(ClassWeights):
    """Binary cross-entropy of one logit for two classes.

    Args:
        num_classes: must be 2.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        smoothing: share of the target that is spread over both classes.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, smoothing: float = 0.0
    ) -> None:
        if num_classes != 2:
            raise ConfigError(
                f"model.loss.name=binary separates 2 classes with one logit, but there are {num_classes} classes; "
                "choose cross_entropy"
            )
        super().__init__(num_classes, class_weights)
        self.smoothing = _check_share("smoothing", smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of logits [B, 1] against classes [B] int64 in {0, 1}, in float32."""
        logits = logits.float()[:, 0]
        target = label.to(logits) * (1.0 - self.smoothing) + self.smoothing / 2
        return self.mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), label)


def _check_share(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"model.loss.{name}={value} must be within 0 … 1")
    return float(value)


class EarthMoverLoss(ClassWeights):
    """Squared earth mover's distance between predicted and true distribution over grades (Hou 2016).

    It is the sum over grades of (CDF of the prediction - CDF of the truth)². Alone it has small gradients where the
    prediction is far off and certain, so cross-entropy can be added (XEMD² in the paper).

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        cross_entropy: factor of the added cross-entropy; 0 adds none.

    Example:
        >>> import torch
        >>> loss = EarthMoverLoss(num_classes=3)
        >>> sure_of_2 = torch.tensor([[0.0, 0.0, 100.0]])
        >>> [float(loss(sure_of_2, torch.tensor([grade]))) for grade in (0, 1, 2)]
        [2.0, 1.0, 0.0]
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, cross_entropy: float = 0.0
    ) -> None:
        super().__init__(num_classes, class_weights)
        if cross_entropy < 0:
            raise ConfigError(f"model.loss.cross_entropy={cross_entropy} must be 0 or more")
        self.cross_entropy = float(cross_entropy)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        logits = logits.float()
        truth = F.one_hot(label, logits.shape[1]).to(logits)
        losses = (logits.softmax(dim=1) - truth).cumsum(dim=1).square().sum(dim=1)
        if self.cross_entropy:
            losses = losses + self.cross_entropy * F.cross_entropy(logits, label, reduction="none")
        return self.mean(losses, label)


class SoftOrdinalLoss(ClassWeights):
    """Cross-entropy against targets that fall off with the distance in grades (SORD, Díaz 2019).

    The target of grade k for a case of grade t is the softmax over k of -|k - t| / width.

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        width: grades over which a target falls off; near 0 it is plain cross-entropy.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, width: float = 0.5
    ) -> None:
        super().__init__(num_classes, class_weights)
        if width <= 0:
            raise ConfigError(f"model.loss.width={width} must be above 0")
        self.width = float(width)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        logits = logits.float()
        grades = torch.arange(logits.shape[1], device=logits.device)
        target = (-(grades[None] - label[:, None]).abs().to(logits) / self.width).softmax(dim=1)
        return self.mean(-(target * logits.log_softmax(dim=1)).sum(dim=1), label)


LOSSES: dict[str, type[ClassWeights]] = {
    "cross_entropy": CrossEntropy,
    "focal": FocalLoss,
    "emd": EarthMoverLoss,
    "soft_ordinal": SoftOrdinalLoss,
    "binary": BinaryLoss,
}


def find_loss_problems(options: Mapping[str, Any], option: str) -> list[str]:
    """List the problems of a loss's `name` and options, in the words of `build_loss`.

    Example:
        >>> from seewhy.losses.classification import find_loss_problems
        >>> find_loss_problems({"name": "focal", "gamma": "x"}, "model.loss")
        ["model.loss.gamma='x' must be a number"]
    """
    name = options.get("name", "")
    problems = choice_problems(name, LOSSES, f"{option}.name")
    return problems or call_problems(LOSSES[name], _choose(options), option, fixed=("num_classes",))


def _choose(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "name" and value is not None}


def build_loss(*, num_classes: int, options: Mapping[str, Any]) -> ClassWeights:
    """The loss `options["name"]` with its other options.

    An option may be null where the loss does not have it, so that one file can state the options of several.

    Raises:
        ConfigError: no such loss, or options it does not have.
    """
    name = str(options.get("name", ""))
    check_choice(name, LOSSES, "model.loss.name")
    return call_with_options(LOSSES[name], _choose(options), "model.loss", num_classes=num_classes)
