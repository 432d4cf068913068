"""Grad-CAM."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap, weighted_sum

__all__ = ["GradCAM"]


class GradCAM(ActivationMap):
    """Channels weighted by the mean of their gradients (Selvaraju 2017, equations 1 and 2)."""

    method: str = "grad_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Σ_c mean(G_c) A_c."""
        return weighted_sum(activation, gradient.flatten(2).mean(dim=2))
