"""KPCA-CAM: first kernel principal component of the activations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.cam.base import ActivationMap, Reshape
from seewhy.explain.capture.layers import Layers

__all__ = ["KPCACAM"]

KERNELS = ("sigmoid", "rbf", "linear")
MOST = 4096
"""Largest number of positions, whose kernel is a matrix of that side."""


class KPCACAM(ActivationMap):
    """Projection of the positions on the first component of a kernel PCA of their activations (Karmani 2024).

    Like EigenCAM, which it equals with the linear kernel, the map is the same for every target, the activations are
    centred over positions, and the sign is chosen so that active regions are bright.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        kernel: `sigmoid` tanh(γ x·y + 1), `rbf` exp(−γ ‖x − y‖²), or `linear` x·y.
        gamma: γ; None is 1 ÷ number of channels.

    Raises:
        ConfigError: an unknown kernel, or a layer with more than 4096 positions.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import KPCACAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> KPCACAM(layers="1")(net, torch.rand(1, 1, 4, 4)).maps["image"].shape
        torch.Size([1, 4, 4])
    """

    method = "kpca_cam"
    needs_gradient = False
    joins_slices = True

    def __init__(
        self,
        *,
        layers: Layers = None,
        reshape: Reshape | None = None,
        kernel: Literal["sigmoid", "rbf", "linear"] = "sigmoid",
        gamma: float | None = None,
    ) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if kernel not in KERNELS:
            raise ConfigError(f"kpca_cam: kernel={kernel!r} is unknown; {nearest(str(kernel), KERNELS)}")
        self.kernel, self.gamma = kernel, gamma

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute √λ₁ v₁ of the centred kernel matrix, at each position."""
        flat = activation.flatten(2).transpose(1, 2).double()
        positions, channels = flat.shape[1:]
        if positions > MOST:
            raise ConfigError(f"kpca_cam: the layer has {positions} positions; expected at most {MOST}, a later layer")
        points = flat - flat.mean(dim=1, keepdim=True)
        kernel = self._compare(points, 1 / channels if self.gamma is None else self.gamma)
        means = kernel.mean(dim=1, keepdim=True)
        centred = kernel - means - means.transpose(1, 2) + means.mean(dim=2, keepdim=True)
        values, vectors = torch.linalg.eigh(centred)
        projection = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
        active = (projection * points.mean(dim=2)).sum(dim=1, keepdim=True)
        signed = torch.where(active < 0, -projection, projection).float()
        return signed.reshape(len(activation), *activation.shape[2:])

    def _compare(self, points: Tensor, gamma: float) -> Tensor:
        """Compute the kernel of all pairs of positions, [N, L, L], from points [N, L, C]."""
        if self.kernel == "rbf":
            return (-gamma * torch.cdist(points, points).square()).exp()
        products = points @ points.transpose(1, 2)
        return products if self.kernel == "linear" else (gamma * products + 1).tanh()
