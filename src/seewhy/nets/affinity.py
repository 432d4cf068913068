"""How alike two places are, read from attention: the affinity itself, its labels, and the random walk over it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.types import Affinity, Attention, MapBatch

__all__ = ["IGNORE", "RandomWalk", "affinity_labels", "attention_affinity", "radius_window"]

IGNORE = 255
"""The label of pixels and pairs of which nothing is known."""


def attention_affinity(attention: Sequence[Attention], projection: nn.Conv2d) -> Tensor:
    """Logits of the affinity between tokens (Ru 2022, eq. 5): learned sum over heads of attention + its transpose.

    The projection is linear, so it is applied once and its result symmetrised: the same numbers for half the
    memory of symmetrising every head first.

    Args:
        attention: [B, heads, N, N] of each of the last blocks, before the softmax in the published method.
        projection: 1x1 convolution from all heads to one channel.

    Returns:
        [B, N, N] float32, symmetric; the affinity is its sigmoid.
    """
    heads = F.conv2d(torch.cat(list(attention), dim=1), projection.weight).squeeze(1).float()
    bias = 0.0 if projection.bias is None else projection.bias.float()
    return heads + heads.transpose(-1, -2) + bias


def radius_window(height: int, width: int, radius: int, *, device: torch.device | None = None) -> Tensor:
    """Which pairs of tokens are at most `radius` rows and columns apart (Chebyshev distance).

    Returns:
        [N, N] bool with N = height · width, row-major.
    """
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    near_rows = (rows[:, None] - rows[None, :]).abs() <= radius
    return near_rows & ((columns[:, None] - columns[None, :]).abs() <= radius)


def affinity_labels(labels: Tensor, *, size: tuple[int, int], radius: int) -> Tensor:
    """What pairs of tokens should be: 1 alike, 0 unlike, 255 unknown.

    A pair is known where both pixel labels are known and the tokens lie within the radius; it is alike where the
    labels are equal, background with background included.

    Args:
        labels: [B, H, W] integer pixel labels, 255 unknown; brought to the tokens' grid by nearest neighbour.
        size: rows and columns of tokens.
        radius: in tokens.

    Returns:
        [B, N, N] int64 in {0, 1, 255}.
    """
    small = F.interpolate(labels[:, None].float(), size=size, mode="nearest").flatten(1).long()
    known = small != IGNORE
    pairs = (small[:, :, None] == small[:, None, :]).long()
    usable = known[:, :, None] & known[:, None, :] & radius_window(*size, radius, device=labels.device)
    return pairs.masked_fill_(~usable, IGNORE)


class RandomWalk:
    """Spreads class evidence along affinities (Ru 2022, eq. 8; Ahn 2018): walks that may end only near by.

    Args:
        radius: largest step in tokens, rows and columns alike.
        power: exponent that sharpens the affinity.
        steps: number of steps; the published method takes one.
        damping: added to each column's sum, so that a place without alike neighbours loses evidence.
    """

    def __init__(self, *, radius: int = 8, power: float = 2.0, steps: int = 1, damping: float = 0.1) -> None:
        if radius < 0 or steps < 0 or power <= 0 or damping < 0:
            raise ConfigError(
                f"random walk radius={radius}, steps={steps} and damping={damping} must be ≥ 0 and power={power} > 0"
            )
        self.radius, self.power, self.steps, self.damping = int(radius), float(power), int(steps), float(damping)

    def transition(self, affinity: Affinity, size: tuple[int, int]) -> Tensor:
        """Weights [B, N, N] of the walk: column j holds where the evidence of token j comes from."""
        window = radius_window(*size, self.radius, device=affinity.device)
        near = affinity.float().masked_fill(~window, 0.0) ** self.power
        return near / (near.sum(dim=1, keepdim=True) + self.damping)

    def __call__(self, evidence: MapBatch, affinity: Affinity) -> MapBatch:
        """Walk.

        Args:
            evidence: [B, K, h, w] on the tokens' grid.
            affinity: [B, h·w, h·w] in [0, 1].

        Returns:
            [B, K, h, w] float32. With the identity as affinity and one step: evidence / (1 + damping).
        """
        height, width = evidence.shape[-2:]
        with torch.autocast(evidence.device.type, enabled=False):
            weights = self.transition(affinity, (height, width))
            walked = evidence.float().flatten(2)
            for _ in range(self.steps):
                walked = walked @ weights
        return walked.unflatten(-1, (height, width))
