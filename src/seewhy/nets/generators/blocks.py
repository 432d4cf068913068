"""Building blocks of the generators: instance normalisation, CBAM gates and self-attention without its full matrix."""

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
    """Normalise each map of each image to mean 0 and variance 1 (Ulyanov 2016, equation 4), without parameters.

    On CPUs, a group norm with one channel per group gives the same values several times faster (benchmarks/cyclegan.py
    compares the whole training step). Its gradient is slow for channels-last tensors, and under autocast on CUDA it
    returns single precision, so torch's own kernel is used there.

    Args:
        channels: channels of a map.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.blocks import InstanceNorm2d
        >>> x = torch.rand(2, 3, 8, 8)
        >>> torch.allclose(InstanceNorm2d(3)(x), torch.nn.InstanceNorm2d(3)(x), atol=1e-5)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.InstanceNorm2d
        """Normalise [B, C, H, W]."""
        if input.device.type == "cpu" and (input.is_contiguous() or not input.requires_grad):
            return F.group_norm(input, int(input.shape[1]), eps=self.eps)
        return super().forward(input)


FLOOR = 0.01
"""Smallest gate, so that a gradient always passes."""


class ChannelGate(nn.Module):
    """Channel gate from the mean of each channel over positions (Woo 2018, equation 2, without the maximum).

    Args:
        channels: C.
        reduction: C divided by the hidden width, which is at least 4.
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
        """Compute the gate [B, C, 1, 1] in (0, 1) of x [B, C, H, W]."""
        return torch.sigmoid(self.fc(x))


class SpatialGate(nn.Module):
    """Spatial gate from mean and maximum over channels (Woo 2018, equation 3).

    Args:
        kernel: side of the convolution, odd.
    """

    def __init__(self, *, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the gate [B, 1, H, W] in (0, 1) of x [B, C, H, W]."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate of its output (Woo 2018, equation 1).

    A feature is multiplied by its gate or by `FLOOR`, whichever is larger. Parameters have the names of the published
    CycleGAN-2.5D checkpoints.

    Args:
        channels: C.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.blocks import CBAM
        >>> x = torch.rand(1, 8, 4, 4)
        >>> bool((CBAM(8)(x) <= x).all())
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_attn = ChannelGate(channels)
        self.spatial_attn = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply x [B, C, H, W] by its gates."""
        x = x * self.channel_attn(x).clamp(min=FLOOR)
        return x * self.spatial_attn(x).clamp(min=FLOOR)


MOST_LOGITS = 1 << 20
"""Most logits of one image in memory at a time without a fused kernel: 4 MiB, so that they fit into a cache."""


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax(q kᵀ / √d) v of tokens without heads, without the whole matrix in memory.

    Fused kernels need an axis of heads. The CPU kernel also needs values as wide as the queries, and is slower than
    processing blocks of rows. Measured in benchmarks/cyclegan.py (docs/results.md): 76 MiB instead of 5,163 MiB for an
    attention at full size with 64 channels. A torch function mode can intercept this function by its name, like
    torch's own, so `seewhy.explain` captures weights [B, N, M].

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
        return _attend_by_rows(query, key, value, None)
    query, key, value = (one.contiguous()[:, None] for one in (query, key, value))  # kernels want the last axis dense
    return F.scaled_dot_product_attention(query, key, value)[:, 0]


class SelfAttention2d(nn.Module):
    """Self-attention between all positions: x + γ · norm(softmax(q kᵀ / √d) v) (SAGAN, Zhang 2019, equations 1 to 3).

    Unlike in the paper, logits are scaled, the result is normalised per image and channel, and γ, which starts at 0, is
    clamped to ± 1. Parameters have the names of the published checkpoints: `query`, `key`, `value`, `gamma`.

    Args:
        channels: C of the map.
        reduction: C / d, the ratio of channels to the width of queries and keys.
        logit_limit: clamp logits to ± this value; the published network uses 50. If the norms of queries and keys show
            that no logit can exceed it, which is nearly always true, the fused kernel gives the same result. None
            never clamps.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.blocks import SelfAttention2d
        >>> x = torch.rand(1, 16, 8, 8)
        >>> torch.equal(SelfAttention2d(16)(x), x)  # γ starts at 0
        True
    """

    def __init__(self, channels: int, *, reduction: int = 8, logit_limit: float | None = None) -> None:
        super().__init__()
        if channels % reduction or channels < reduction:
            raise ConfigError(f"self-attention: channels={channels}; expected a multiple of reduction={reduction}")
        if logit_limit is not None and logit_limit <= 0:
            raise ConfigError(f"self-attention: logit_limit={logit_limit}; expected a value above 0, or null for none")
        self.logit_limit = logit_limit
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.norm = InstanceNorm2d(channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Add attention to x [B, C, H, W]."""
        query, key, value = (part(x).flatten(2).transpose(-2, -1) for part in (self.query, self.key, self.value))
        if self.logit_limit is not None and _bound_logits(query, key) > self.logit_limit:
            mixed = _attend_by_rows(query, key, value, self.logit_limit)
        else:
            mixed = scaled_dot_product_attention(query, key, value)
        mixed = self.norm(mixed.transpose(-2, -1).reshape(x.shape[0], int(mixed.shape[-1]), *x.shape[2:]))
        return x + self.gamma.clamp(-1.0, 1.0).to(mixed.dtype) * mixed

    def extra_repr(self) -> str:
        """Return the limit of the logits."""
        return f"logit_limit={self.logit_limit}"


def _bound_logits(query: Tensor, key: Tensor) -> float:
    """Compute an upper bound of the magnitude of the logits (Cauchy-Schwarz)."""
    lengths = [tokens.detach().float().norm(dim=2).amax() for tokens in (query, key)]
    return float(lengths[0] * lengths[1]) / math.sqrt(query.shape[-1])


def _attend_by_rows(query: Tensor, key: Tensor, value: Tensor, limit: float | None) -> Tensor:
    """Attend with blocks of queries, or with all queries at once inside a torch function mode."""
    if has_torch_function((query, key, value)):
        return _compute_weights(query, key, limit).to(value.dtype) @ value
    return cast(Tensor, _AttentionByRows.apply(query, key, value, limit))


class _AttentionByRows(torch.autograd.Function):
    """Attention whose weights are recomputed in the backward (as in FlashAttention, Dao 2022, algorithm 4)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, limit: float | None) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.limit = limit
        result = value.new_empty((*query.shape[:2], value.shape[2]))
        for part, out in _split_rows(key, query, result):
            torch.bmm(_compute_weights(part, key, limit).to(value.dtype), value, out=out)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        with torch.autocast(pull.device.type, enabled=False):  # full precision for sums over all queries
            query, key, value = ctx.saved_tensors
            return *_compute_gradients(pull, query, key, value, ctx.limit), None


def _compute_gradients(
    pull: Tensor, query: Tensor, key: Tensor, value: Tensor, limit: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of queries, keys and values from the gradient `pull` of the result."""
    scale = 1 / math.sqrt(query.shape[-1])
    by_query = torch.empty_like(query)
    by_key, by_value = torch.zeros_like(_to_full(key)), torch.zeros_like(_to_full(value))
    for part, pulled, out in _split_rows(key, query, pull, by_query):
        weights = _compute_weights(part, key, limit)
        by_value.baddbmm_(weights.to(by_value.dtype).mT, pulled.to(by_value.dtype))
        slope = torch.ops.aten._softmax_backward_data(_to_full(pulled @ value.mT), weights, -1, weights.dtype)
        if limit is not None:  # a clamped logit has gradient 0
            slope.masked_fill_(_compute_logits(part, key).abs() > limit, 0.0)
        out.copy_((slope @ _to_full(key)).mul_(scale))
        by_key.baddbmm_(slope.mT, _to_full(part), alpha=scale)
    return by_query, by_key.to(key.dtype), by_value.to(value.dtype)


def _split_rows(key: Tensor, *tokens: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tokens into blocks of rows whose logits fit into `MOST_LOGITS`.

    Results are allocated before the loop: small blocks of memory that stay between large ones that are freed would
    fragment the memory, in the end by as much as a whole matrix.
    """
    rows = max(1, MOST_LOGITS // key.shape[1])
    return zip(*(tensor.split(rows, dim=1) for tensor in tokens), strict=True)


def _compute_logits(query: Tensor, key: Tensor) -> Tensor:
    return _to_full(
        (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    )  # dividing the queries is cheaper than the logits


def _compute_weights(query: Tensor, key: Tensor, limit: float | None) -> Tensor:
    logits = _compute_logits(query, key)
    return (logits if limit is None else logits.clamp(-limit, limit)).softmax(dim=-1)


def _to_full(values: Tensor) -> Tensor:
    """Convert to single precision, unless the precision is double."""
    return values if values.dtype == torch.float64 else values.float()
