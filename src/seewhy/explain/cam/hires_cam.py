"""HiResCAM: activations times their gradients."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap

__all__ = ["HiResCAM"]


class HiResCAM(ActivationMap):
    """Activations times their gradients (Draelos and Carin 2020, arXiv 2011.08891).

    If the layers after the chosen one are linear, the map sums to the score minus its bias: it shows what the model
    used.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import HiResCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> maps = HiResCAM(layers="1")(net, torch.rand(2, 1, 4, 4), target=1)
        >>> torch.allclose(maps.maps["image"].sum(dim=(1, 2)), maps.scores[:, 1] - net[3].bias[1], atol=1e-6)
        True
    """

    method = "hires_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c G_c ⊙ A_c."""
        return (gradient * activation).sum(dim=1)
