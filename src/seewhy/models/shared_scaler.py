"""One scale of half-precision gradients for several optimisers."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SharedGradScaler"]


class SharedGradScaler(torch.amp.GradScaler):
    """A scaler that changes its scale only after every optimiser has stepped.

    Lightning updates the scale after each optimiser's step. The gradients of the next optimiser, which were made with
    the scale before, would then be divided by another one.

    Args:
        scaler: whose settings are taken over.
        optimizers: how many share the scale.
        device: type of the gradients' device.
    """

    def __init__(self, scaler: torch.amp.GradScaler, *, optimizers: int, device: str) -> None:
        super().__init__(
            device=device,
            init_scale=scaler.get_scale() if scaler.is_enabled() else 1.0,
            growth_factor=scaler.get_growth_factor(),
            backoff_factor=scaler.get_backoff_factor(),
            growth_interval=scaler.get_growth_interval(),
            enabled=scaler.is_enabled(),
        )
        self._optimizers = optimizers
        self._asked = 0

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Update at every n-th call, once for all optimisers."""
        self._asked += 1
        if self._asked % self._optimizers == 0:
            super().update(new_scale)
