"""XGrad-CAM."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap, weighted_sum

__all__ = ["XGradCAM"]

SMALL = 1e-7
"""Keeps the division by a dead channel's sum finite."""


class XGradCAM(ActivationMap):
    """Channels weighted by the mean of their gradients, itself weighted by the activations (Fu 2020, arXiv 2008.02312).

    The paper assumes activations of one sign (after a ReLU). Where a channel's activations cancel, as after SiLU,
    its weight can become very large: prefer HiResCAM, from which this differs by where a channel's sum is put.
    """

    method = "xgrad_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Σ_c (Σ G_c A_c ÷ Σ A_c) A_c."""
        products, sums = (gradient * activation).flatten(2).sum(dim=2), activation.flatten(2).sum(dim=2)
        return weighted_sum(activation, products / (sums + SMALL))
