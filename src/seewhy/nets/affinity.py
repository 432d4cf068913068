"""Affinity between positions: from attention, its labels, and the random walk along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.types import Affinity, Attention, MapBatch

__all__ = ["IGNORE", "RandomWalk", "affinity_labels", "attention_affinity", "radius_window"]

IGNORE = 255
"""Label of unknown pixels and pairs."""


def attention_affinity(attention: Sequence[Attention], projection: nn.Conv2d) -> Tensor:
    """Compute logits of the affinity between tokens: a learned sum over heads of attention + its transpose.

    See Ru 2022, eq. 5. The projection is linear, so it is applied first and its result symmetrised: the same numbers
    for half the memory of symmetrising every head.

    Args:
        attention: [B, heads, N, N] of each of the last blocks, before the softmax in the published method.
        projection: 1x1 convolution from all heads to one channel.

    Returns:
        [B, N, N] float32, symmetric; the affinity is its sigmoid.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.nets.affinity import attention_affinity
        >>> logits = attention_affinity([torch.rand(1, 2, 9, 9)], nn.Conv2d(2, 1, 1))
        >>> logits.shape, torch.allclose(logits, logits.mT)
        (torch.Size([1, 9, 9]), True)
    """
    heads = F.conv2d(torch.cat(list(attention), dim=1), projection.weight).squeeze(1).float()
    bias = 0.0 if projection.bias is None else projection.bias.float()
    return heads + heads.transpose(-1, -2) + bias


def radius_window(height: int, width: int, radius: int, *, device: torch.device | None = None) -> Tensor:
    """Return which pairs of tokens are at most `radius` rows and columns apart (Chebyshev distance).

    Returns:
        [N, N] bool with N = height · width, row-major.
    """
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    near_rows = (rows[:, None] - rows[None, :]).abs() <= radius
    return near_rows & ((columns[:, None] - columns[None, :]).abs() <= radius)


def affinity_labels(labels: Tensor, *, size: tuple[int, int], radius: int) -> Tensor:
    """Make labels of pairs of tokens: 1 for the same class, 0 for different classes, 255 for unknown.

    A pair is known if both pixel labels are known and the tokens lie within the radius. Two background tokens have
    the same class.

    Args:
        labels: [B, H, W] integer pixel labels, 255 unknown; resized to the grid of tokens by nearest neighbour.
        size: rows and columns of tokens.
        radius: largest distance in tokens.

    Returns:
        [B, N, N] int64 in {0, 1, 255}.

    Example:
        >>> import torch
        >>> from seewhy.nets.affinity import affinity_labels
        >>> affinity_labels(torch.tensor([[[0, 1, 255]]]), size=(1, 3), radius=1)
        tensor([[[  1,   0, 255],
                 [  0,   1, 255],
                 [255, 255, 255]]])
    """
    small = F.interpolate(labels[:, None].float(), size=size, mode="nearest").flatten(1).long()
    known = small != IGNORE
    pairs = (small[:, :, None] == small[:, None, :]).long()
    usable = known[:, :, None] & known[:, None, :] & radius_window(*size, radius, device=labels.device)
    return pairs.masked_fill_(~usable, IGNORE)


class RandomWalk:
    """Random walk that propagates class evidence along affinities to nearby tokens (Ru 2022, eq. 8; Ahn 2018).

    Args:
        radius: largest step in tokens, in rows and columns.
        power: exponent that sharpens the affinity.
        steps: number of steps; the published method uses one.
        damping: added to the sum of each column, so that a token without similar neighbours loses evidence.

    Example:
        >>> import torch
        >>> from seewhy.nets.affinity import RandomWalk
        >>> evidence = torch.tensor([[[[1.0, 0.0]]]])
        >>> RandomWalk(radius=1, damping=0)(evidence, torch.ones(1, 2, 2))
        tensor([[[[0.5000, 0.5000]]]])
    """

    def __init__(self, *, radius: int = 8, power: float = 2.0, steps: int = 1, damping: float = 0.1) -> None:
        if radius < 0 or steps < 0 or power <= 0 or damping < 0:
            raise ConfigError(
                f"random walk: radius={radius}, steps={steps} and damping={damping} must be ≥ 0 and power={power} > 0"
            )
        self.radius, self.power, self.steps, self.damping = int(radius), float(power), int(steps), float(damping)

    def settings(self) -> dict[str, Any]:
        """The options as plain data."""
        return {"radius": self.radius, "power": self.power, "steps": self.steps, "damping": self.damping}

    def transition(self, affinity: Affinity, size: tuple[int, int]) -> Tensor:
        """Compute the weights [B, N, N] of the walk: column j holds the sources of the evidence of token j."""
        window = radius_window(*size, self.radius, device=affinity.device)
        near = affinity.float().masked_fill(~window, 0.0) ** self.power
        return near / (near.sum(dim=1, keepdim=True) + self.damping)

    def __call__(self, evidence: MapBatch, affinity: Affinity) -> MapBatch:
        """Propagate evidence.

        Args:
            evidence: [B, K, h, w] on the grid of tokens.
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
