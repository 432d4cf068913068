"""LayerCAM."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap

__all__ = ["LayerCAM"]


class LayerCAM(ActivationMap):
    """Activations times the positive part of their own gradients (Jiang 2021, IEEE TIP 30).

    Unlike means of gradients this holds in early layers too, whose maps are finer.
    """

    method = "layer_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Σ_c relu(G_c) ⊙ A_c."""
        return (gradient.relu() * activation).sum(dim=1)
