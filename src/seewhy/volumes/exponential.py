"""An exponential whose result for a number does not depend on its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["exponential", "sigmoid", "softmax"]

BLOCK = 32768
"""Numbers per call: PyTorch does not share so few out among threads."""
LANES = 64
"""A multiple of every vector unit's width."""


def exponential(values: Tensor) -> Tensor:
    """Exponential of float32 values, the same bits wherever a value stands.

    On a processor PyTorch runs the last few numbers of a call, or of a thread's share of it, through another formula
    than the rest, which can differ in the last bit; a tile of another width would then round to another byte. Here
    every call is a whole number of vectors of one thread. Sums, products and quotients round correctly and need no
    such care.
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
    """Softmax over the first axis of float32 logits [K, …]; the classes are added in their order."""
    raised = exponential(logits - logits.amax(0))
    total = raised[0].clone()
    for row in raised[1:]:
        total += row
    return raised.div_(total)
