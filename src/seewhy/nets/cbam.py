"""Gates on channels and on places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CBAM", "ChannelGate", "SpatialGate"]

FLOOR = 0.01
"""A gate never closes entirely, so that a gradient passes."""


class ChannelGate(nn.Module):
    """How far each channel is let through, from its mean over places (Woo 2018, equation 2, without its maximum).

    Args:
        channels: C.
        reduction: C divided by the width in between, which is never below 4.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.fc = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate [B, C, 1, 1] in (0, 1) of x [B, C, H, W]."""
        return torch.sigmoid(self.fc(x))


class SpatialGate(nn.Module):
    """How far each place is let through, from mean and maximum over channels (Woo 2018, equation 3).

    Args:
        kernel: side of the convolution, odd.
    """

    def __init__(self, *, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate [B, 1, H, W] in (0, 1) of x [B, C, H, W]."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate of what it lets through (Woo 2018, equation 1).

    A feature is multiplied by its gate or by `FLOOR`, whichever is larger. Parameters have the names of the
    published CycleGAN-2.5D checkpoints.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_attn = ChannelGate(channels)
        self.spatial_attn = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] of x [B, C, H, W]."""
        x = x * self.channel_attn(x).clamp(min=FLOOR)
        return x * self.spatial_attn(x).clamp(min=FLOOR)
