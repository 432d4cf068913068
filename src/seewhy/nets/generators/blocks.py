"""Self-attention between the places of a feature map, without its full matrix in memory.

Instance normalisation, by the quicker of torch's kernels.

Gates on channels and on places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from seewhy.errors import ConfigError

__all__ = ["CBAM", "ChannelGate", "InstanceNorm2d", "SelfAttention2d", "SpatialGate", "scaled_dot_product_attention"]


class InstanceNorm2d(nn.InstanceNorm2d):
    """Each map of each image to mean 0 and variance 1 (Ulyanov 2016, equation 4): nothing to learn, nothing to keep.

    On CPUs, normalising groups of one channel gives the same numbers several times faster. Its gradient is slow
    where channels come last, and under autocast on CUDA it would turn half precision into single, so torch's own
    kernel has those.

    Args:
        channels: of a map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.InstanceNorm2d
        """[B, C, H, W] of [B, C, H, W]."""
        if input.device.type == "cpu" and (input.is_contiguous() or not input.requires_grad):
            return F.group_norm(input, input.shape[1], eps=self.eps)
        return super().forward(input)


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


MOST_LOGITS = 1 << 20
"""Logits of one image that are held at once where no fused kernel is used: 4 MiB, so that they stay in a cache."""


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v of tokens without heads, never with its whole matrix in memory.

    Fused kernels take no tokens without heads. That of CPUs takes no values of another width than the queries either
    and is slower than a part of the rows after another. A torch function mode meets this function by its name, as it
    would torch's own, and so `seewhy.explain` sees weights [B, N, M].

    Args:
        query: [B, N, d].
        key: [B, M, d].
        value: [B, M, e].

    Returns:
        [B, N, e].
    """
    if has_torch_function((query, key, value)):
        return cast(
            Tensor,
            handle_torch_function(scaled_dot_product_attention, (query, key, value), query, key, value),
        )
    if query.device.type == "cpu":
        return _by_rows(query, key, value, None)
    query, key, value = (one.contiguous()[:, None] for one in (query, key, value))  # kernels want the last axis dense
    return F.scaled_dot_product_attention(query, key, value)[:, 0]


class SelfAttention2d(nn.Module):
    """Every place looks at every other: x + γ · norm(softmax(q kᵀ / √d) v) (SAGAN, Zhang 2019, equations 1 to 3).

    Unlike there, logits are scaled, the result is normalised per image and channel, and γ, which starts at 0, is
    held within ± 1. Parameters have the names of the published checkpoints: `query`, `key`, `value`, `gamma`.

    Args:
        channels: C of the map.
        reduction: C / d, how much narrower queries and keys are.
        logit_limit: clamp logits to ± this, as the published network does at 50. Where the lengths of queries and
            keys show that no logit can be beyond, which is nearly always, the fused kernel gives the same numbers.
            None never clamps.
    """

    def __init__(self, channels: int, *, reduction: int = 8, logit_limit: float | None = None) -> None:
        super().__init__()
        if channels % reduction or channels < reduction:
            raise ConfigError(f"self-attention: channels={channels} must be a multiple of reduction={reduction}")
        if logit_limit is not None and logit_limit <= 0:
            raise ConfigError(f"self-attention: logit_limit={logit_limit} must be above 0, or null for none")
        self.logit_limit = logit_limit
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.norm = InstanceNorm2d(channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] of x [B, C, H, W]."""
        query, key, value = (part(x).flatten(2).mT for part in (self.query, self.key, self.value))
        if self.logit_limit is not None and _longest_logit(query, key) > self.logit_limit:
            seen = _by_rows(query, key, value, self.logit_limit)
        else:
            seen = scaled_dot_product_attention(query, key, value)
        seen = self.norm(seen.mT.unflatten(2, x.shape[2:]))
        return x + self.gamma.clamp(-1.0, 1.0).to(seen.dtype) * seen

    def extra_repr(self) -> str:
        """The clamp."""
        return f"logit_limit={self.logit_limit}"


def _longest_logit(query: Tensor, key: Tensor) -> float:
    """No logit of these is larger in magnitude (Cauchy and Schwarz)."""
    lengths = [one.detach().float().norm(dim=2).amax() for one in (query, key)]
    return float(lengths[0] * lengths[1]) / math.sqrt(query.shape[-1])


def _by_rows(query: Tensor, key: Tensor, value: Tensor, limit: float | None) -> Tensor:
    """Attention of a part of the queries at a time; of all at once where a torch function mode wants to see it."""
    if has_torch_function((query, key, value)):
        return _weights(query, key, limit).to(value.dtype) @ value
    return cast(Tensor, _ByRows.apply(query, key, value, limit))


class _ByRows(torch.autograd.Function):
    """Weights are made again for the gradient instead of being kept (as FlashAttention does, Dao 2022, algorithm 4)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, limit: float | None) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.limit = limit
        seen = value.new_empty((*query.shape[:2], value.shape[2]))
        for part, place in _parts(_rows(key), query, seen):
            torch.bmm(_weights(part, key, limit).to(value.dtype), value, out=place)
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        with torch.autocast(pull.device.type, enabled=False):  # sums over all queries, whatever surrounds the pass
            query, key, value = ctx.saved_tensors
            return *_slopes(pull, query, key, value, ctx.limit), None


def _slopes(
    pull: Tensor, query: Tensor, key: Tensor, value: Tensor, limit: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    scale = 1 / math.sqrt(query.shape[-1])
    by_query, by_key, by_value = torch.empty_like(query), torch.zeros_like(_full(key)), torch.zeros_like(_full(value))
    for part, pulled, place in _parts(_rows(key), query, pull, by_query):
        weights = _weights(part, key, limit)
        by_value.baddbmm_(weights.to(by_value.dtype).mT, pulled.to(by_value.dtype))
        slope = torch.ops.aten._softmax_backward_data(_full(pulled @ value.mT), weights, -1, weights.dtype)
        if limit is not None:  # a clamped logit has no slope
            slope.masked_fill_(_logits(part, key).abs() > limit, 0.0)
        place.copy_((slope @ _full(key)).mul_(scale))
        by_key.baddbmm_(slope.mT, _full(part), alpha=scale)
    return by_query, by_key.to(key.dtype), by_value.to(value.dtype)


def _parts(rows: int, *tokens: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same tokens of each, some at a time.

    Results have their place from the start: small blocks of memory that stay between large ones that are freed would
    leave gaps which nothing fits, as much as a whole matrix in the end.
    """
    return zip(*(one.split(rows, dim=1) for one in tokens), strict=True)


def _rows(key: Tensor) -> int:
    return max(1, MOST_LOGITS // key.shape[1])


def _logits(query: Tensor, key: Tensor) -> Tensor:
    return _full((query / math.sqrt(query.shape[-1])) @ key.mT)  # fewer numbers to divide than logits


def _weights(query: Tensor, key: Tensor, limit: float | None) -> Tensor:
    logits = _logits(query, key)
    return (logits if limit is None else logits.clamp(-limit, limit)).softmax(dim=-1)


def _full(values: Tensor) -> Tensor:
    """At least single precision."""
    return values if values.dtype == torch.float64 else values.float()
