"""HiResCAM."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap

__all__ = ["HiResCAM"]


class HiResCAM(ActivationMap):
    """Activations times their own gradients (Draelos and Carin 2020, arXiv 2011.08891).

    Where the layers behind are linear, the map sums to the score less its bias: it shows what the model used.
    """

    method = "hires_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Σ_c G_c ⊙ A_c."""
        return (gradient * activation).sum(dim=1)
