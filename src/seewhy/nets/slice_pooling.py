"""One vector for a volume from those of its slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GatedAttentionPooling"]


class GatedAttentionPooling(nn.Module):
    """Weighted mean of slices, with weights learned from the slices (Ilse 2018, arXiv 1802.04712, eq. 7 and 9).

    The weight of slice d is softmax over slices of w · (tanh(V h_d) ⊙ sigmoid(U h_d)); the order of slices does
    not matter, and neither does their number.

    Args:
        channels: length of a slice's vector.
        hidden: rows of V and U.
    """

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.value = nn.Linear(channels, hidden)
        self.gate = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)

    def weights(self, slices: Tensor) -> Tensor:
        """Weights [B, D], each row summing to 1, of slices [B, D, channels]."""
        gated = torch.tanh(self.value(slices)) * torch.sigmoid(self.gate(slices))
        return self.score(gated)[..., 0].float().softmax(dim=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Vectors [B, channels] of slices [B, D, channels]."""
        return torch.einsum("bd,bdc->bc", self.weights(slices).to(slices), slices)
