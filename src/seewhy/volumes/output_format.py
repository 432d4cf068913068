"""Convert blended logits to stored probabilities or labels, with the same bits at any position."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.options import check_choice

__all__ = ["MODES", "STORED", "OutputFormat", "exponential", "sigmoid", "softmax"]

BLOCK = 32768
"""Numbers per call; PyTorch does not split so few among threads."""
LANES = 64
"""A multiple of the width of every vector unit."""


def exponential(values: Tensor) -> Tensor:
    """Exponential of float32 values with the same bits at any position in the tensor.

    On a CPU, PyTorch computes the last few numbers of a call, or of a thread's part of it, with another formula that
    can differ in the last bit; a tile of another width would then round to another byte. Here every call is a whole
    number of vectors in one thread. Sums, products and quotients round correctly and need no such care.
    """
    if values.device.type != "cpu":
        return values.exp()
    flat = values.reshape(-1)
    result = torch.empty_like(flat)
    for start in range(0, flat.numel(), BLOCK):
        piece = flat[start : start + BLOCK]
        odd = piece.numel() % LANES
        whole = torch.nn.functional.pad(piece, (0, LANES - odd)) if odd else piece
        result[start : start + BLOCK] = whole.exp()[: piece.numel()]
    return result.view(values.shape)


def sigmoid(logits: Tensor) -> Tensor:
    """1 / (1 + exp(-logits)) of float32 logits of any shape."""
    return exponential(-logits).add_(1).reciprocal_()


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the first axis of float32 logits [K, …]; classes are added in order."""
    raised = exponential(logits - logits.amax(0))
    total = raised[0].clone()
    for row in raised[1:]:
        total += row
    return raised.div_(total)


MODES = ("binary", "threshold", "multiclass", "regions")
STORED = ("uint8", "uint16", "float32", "labels", "logits")
SCALES = {"uint8": 255, "uint16": 65535}


class OutputFormat:
    """Meaning of a network's channels, and format of stored voxels.

    Probabilities are multiplied by a fixed number (255 or 65535) and rounded to the nearest, never rescaled per block,
    so values are comparable everywhere.

    Args:
        mode: ``binary``: one foreground class from one channel (sigmoid) or two (softmax, channel 1);
            ``threshold``: the same, stored as 1 where the probability is above `threshold`, else 0;
            ``multiclass``: softmax over all channels, channel 0 is background;
            ``regions``: a sigmoid per channel, regions may overlap.
        channels: of the logits.
        stored: ``uint8`` or ``uint16`` scaled probabilities, ``float32`` probabilities, ``labels`` (class numbers;
            for regions those of `class_order`), or ``logits`` as float16. ``threshold`` stores labels instead of
            probabilities.
        threshold: probability above which a voxel is foreground, in (0, 1); for binary labels and regions.
        class_order: class number of each region stored as labels; later regions overwrite earlier ones (nnU-Net's
            `regions_class_order`); None is 1, 2, ….
        empty_logit: logit of the background in a skipped patch; its foreground has probability
            sigmoid(-empty_logit). 12 rounds to 0 in both integer types.

    Raises:
        ConfigError: unknown or contradictory options.

    Example:
        >>> output_format = OutputFormat(mode="multiclass", channels=3, stored="labels")
        >>> output_format(torch.tensor([0.0, 2.0, 1.0]).view(3, 1, 1, 1))
        tensor([[[1]]], dtype=torch.uint8)
    """

    def __init__(
        self,
        *,
        mode: str,
        channels: int,
        stored: str = "uint8",
        threshold: float = 0.5,
        class_order: Sequence[int] | None = None,
        empty_logit: float = 12.0,
    ) -> None:
        check_choice(mode, MODES, "mode")
        check_choice(stored, STORED, "stored")
        if mode in ("binary", "threshold") and channels not in (1, 2):
            raise ConfigError(f"mode={mode} takes 1 or 2 channels, the network has {channels}; use mode=multiclass")
        if mode == "multiclass" and channels < 2:
            raise ConfigError("mode=multiclass needs 2 channels or more, the network has 1; use mode=binary")
        if not 0 < threshold < 1:
            raise ConfigError(f"threshold={threshold}: expected a probability in (0, 1)")
        if empty_logit <= 0:
            raise ConfigError(f"empty_logit={empty_logit}; expected a positive number")
        order = tuple(class_order) if class_order is not None else tuple(range(1, channels + 1))
        if mode == "regions" and len(order) != channels:
            raise ConfigError(f"class_order has {len(order)} numbers, the network has {channels} regions")
        self.mode, self.channels = mode, channels
        self.stored = "labels" if mode == "threshold" and stored != "logits" else stored
        self.threshold, self.class_order, self.empty_logit = float(threshold), order, float(empty_logit)
        self.cut = float(np.float32(math.log(threshold / (1 - threshold))))
        """The threshold as a logit, so that a comparison needs no exponential."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type."""
        if self.stored == "logits":
            return np.dtype("float16")
        if self.stored != "labels":
            return np.dtype(self.stored)
        highest = {"multiclass": self.channels - 1, "regions": max(self.class_order)}.get(self.mode, 1)
        return np.dtype("uint8" if highest < 256 else "uint16")

    def names(self, classes: Mapping[int, str]) -> list[str]:
        """Names of the logits' channels, from the names of the class numbers."""
        if self.mode == "regions":
            return [classes.get(number, f"region {number}") for number in self.class_order]
        if self.channels == 1:
            return [classes.get(1, "foreground")]
        return [classes.get(number, f"class {number}") for number in range(self.channels)]

    @property
    def planes(self) -> int | None:
        """Number of stored channels; None for a single volume without a channel axis."""
        if self.stored == "logits":
            return self.channels
        return self.channels if self.mode in ("multiclass", "regions") and self.stored != "labels" else None

    @property
    def scale(self) -> int:
        """Stored value of probability 1; 1 for labels, logits and float32."""
        return SCALES.get(self.stored, 1)

    @property
    def labels(self) -> bool:
        """Whether class numbers are stored."""
        return self.stored == "labels"

    def shape(self, volume: Sequence[int]) -> tuple[int, ...]:
        """Shape of the output array for a volume ZYX."""
        return (*(() if self.planes is None else (self.planes,)), *volume)

    def settings(self) -> dict[str, Any]:
        """Everything that changes stored bytes, as plain data for a fingerprint."""
        return {
            "mode": self.mode,
            "channels": self.channels,
            "stored": self.stored,
            "threshold": self.threshold,
            "class_order": list(self.class_order),
            "empty_logit": self.empty_logit,
        }

    def empty_logits(self, device: torch.device | str = "cpu") -> Tensor:
        """Logits [K] float32 of a skipped patch: background, never a probability of 0.5."""
        empty = torch.zeros(self.channels, device=device)
        if self.mode == "regions" or self.channels == 1:
            empty -= self.empty_logit
        else:
            empty[0] = self.empty_logit
        return empty

    def __call__(self, logits: Tensor) -> Tensor:
        """Convert blended logits to stored values.

        Args:
            logits: [K, z, y, x] float32.

        Returns:
            [z, y, x], or [planes, z, y, x] if `planes` is not None, on the same device; uint16 as int16 with the same
            bits (PyTorch supports few operations on uint16), for a view in NumPy.
        """
        if self.stored == "logits":
            return logits.half()
        if self.stored == "labels":
            return self._labels(logits)
        probability = self._probability(logits)
        if self.stored == "float32":
            return probability
        scaled = probability.mul_(self.scale).round_()
        return scaled.to(torch.uint8) if self.stored == "uint8" else scaled.to(torch.int32).to(torch.int16)

    def _foreground(self, logits: Tensor) -> Tensor:
        """Logit [z, y, x] of the foreground class; the softmax of two logits is the sigmoid of their difference."""
        return logits[0] if self.channels == 1 else logits[1] - logits[0]

    def _probability(self, logits: Tensor) -> Tensor:
        if self.mode == "binary":
            return sigmoid(self._foreground(logits))
        return softmax(logits) if self.mode == "multiclass" else sigmoid(logits)

    def _labels(self, logits: Tensor) -> Tensor:
        kind = torch.uint8 if self.dtype == np.uint8 else torch.int16
        if self.mode in ("binary", "threshold"):
            return (self._foreground(logits) > self.cut).to(kind)
        if self.mode == "multiclass":
            return logits.argmax(0).to(torch.int32).to(kind)
        labels = torch.zeros(logits.shape[1:], dtype=torch.int32, device=logits.device)
        for region, label in zip(logits, self.class_order, strict=True):
            labels[region > self.cut] = label
        return labels.to(kind)
