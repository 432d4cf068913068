"""Spectral norm of a convolution's weights, with the gradient's formula written out."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrize

__all__ = ["SpectralNorm", "spectral_norm"]

EPS = 1e-12
FIRST_ITERATIONS = 15
"""Power iterations of fresh weights, as torch does."""


def spectral_norm(conv: nn.Conv2d) -> nn.Conv2d:
    """Divide a convolution's weights by their largest singular value from now on, see `SpectralNorm`.

    Names in state dicts are those of `torch.nn.utils.parametrizations.spectral_norm`.
    """
    parametrize.register_parametrization(conv, "weight", SpectralNorm(conv.weight))
    return conv


class SpectralNorm(nn.Module):
    """W / σ with σ = uᵀ W v, of which u and v follow W by one power iteration per use in training (Miyato 2018).

    The same numbers as torch's. Its gradient, (G - ⟨G, W/σ⟩ u vᵀ) / σ (there, equation 12), needs one matrix like W
    where automatic differentiation makes five.

    Args:
        weight: [out, …], fresh.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, length in zip(("_u", "_v"), matrix.shape, strict=True):
            self.register_buffer(name, F.normalize(matrix.new_empty(length).normal_(), dim=0, eps=EPS))
        self._iterate(matrix, FIRST_ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        """Weights [out, …] whose largest singular value is 1."""
        if self.training:
            self._iterate(weight.detach().flatten(1), 1)
        # Cloned, since a later use moves them on before this one's gradient is taken.
        return cast(Tensor, _Divided.apply(weight, self._u.clone(), self._v.clone()))

    def right_inverse(self, value: Tensor) -> Tensor:
        """Weights that are set are those before the division."""
        return value

    @torch.no_grad()
    def _iterate(self, matrix: Tensor, count: int) -> None:
        for _ in range(count):
            self._u.copy_(F.normalize(matrix @ self._v, dim=0, eps=EPS))
            self._v.copy_(F.normalize(matrix.mT @ self._u, dim=0, eps=EPS))


class _Divided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        sigma = torch.dot(u, weight.flatten(1) @ v)
        divided = weight / sigma
        ctx.save_for_backward(divided, sigma, u, v)
        return divided

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, None, None]:
        divided, sigma, u, v = ctx.saved_tensors
        # A backward pass inside of autocast would take the outer product in half precision on a GPU.
        with torch.autocast(pull.device.type, enabled=False):
            along = torch.dot(pull.flatten(), divided.flatten())
            return torch.addr(pull.flatten(1), u * -along, v).div_(sigma).view_as(pull), None, None
