"""LayerCAM: activations times the positive part of their gradients."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap

__all__ = ["LayerCAM"]


class LayerCAM(ActivationMap):
    """Activations times the positive part of their gradients (Jiang 2021, IEEE TIP 30).

    Unlike methods that average gradients, it works for early layers, too, whose maps are finer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import LayerCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        >>> maps = LayerCAM(layers="1")(net, torch.rand(2, 1, 7, 7))
        >>> maps.maps["image"].shape, bool((maps.maps["image"] >= 0).all())
        (torch.Size([2, 7, 7]), True)
    """

    method = "layer_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c relu(G_c) ⊙ A_c."""
        return (gradient.relu() * activation).sum(dim=1)
