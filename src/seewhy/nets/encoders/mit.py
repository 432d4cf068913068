"""Mix Transformer (MiT), the hierarchical encoder of SegFormer, with optional attention output.

Written from Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
NeurIPS 2021, section 3.1; parameters have the names of the published weights, which load unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from seewhy.errors import ConfigError, nearest
from seewhy.nets.encoders.base import Encoder, Features
from seewhy.types import Attention, ImageBatch

__all__ = ["MIT_VARIANTS", "MiT", "MiTVariant"]

REDUCTIONS = (8, 4, 2, 1)
"""Reduction of the keys per axis and stage (R = 64, 16, 4, 1 in the paper)."""
KERNELS = (7, 3, 3, 3)
"""Kernels of the overlapping patch embeddings."""


@dataclass(frozen=True)
class MiTVariant:
    """Channels, heads and blocks of the four stages."""

    widths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


_B = (64, 128, 320, 512), (1, 2, 5, 8)
MIT_VARIANTS: dict[str, MiTVariant] = {
    "mit_nano": MiTVariant((16, 32, 64, 128), (1, 2, 4, 8), (1, 1, 1, 2)),
    "mit_b0": MiTVariant((32, 64, 160, 256), (1, 2, 5, 8), (2, 2, 2, 2)),
    "mit_b1": MiTVariant(*_B, (2, 2, 2, 2)),
    "mit_b2": MiTVariant(*_B, (3, 4, 6, 3)),
    "mit_b3": MiTVariant(*_B, (3, 4, 18, 3)),
    "mit_b4": MiTVariant(*_B, (3, 8, 27, 3)),
    "mit_b5": MiTVariant(*_B, (3, 6, 40, 3)),
}
"""The paper's table 6, and `mit_nano`, a quarter of b1's width for CPUs and tests."""


class MiT(Encoder):
    """Four stages of overlapping patch embedding and transformer blocks.

    Images may have any size: an embedding of stride s turns h rows into ceil(h / s). As in the published network, rows
    and columns beyond the last full reduction window give queries but no keys; a map smaller than one window is
    zero-padded to one window.

    Args:
        variant: a name in `MIT_VARIANTS`.
        in_channels: channels of the image.
        stage_strides: stride of each stage's embedding; (4, 2, 2, 1) keeps stage 4 at 1/16, as in AFA (Ru et al. 2022);
            (4, 2, 2, 2) is SegFormer's.
        attention_blocks: number of last blocks that return their attention, at most the blocks of stage 4, whose keys
            are not reduced; 0 for none.
        pre_softmax: whether attention is q·kᵀ, neither scaled nor normalised (the input of AFA's affinity), instead of
            the softmax weights.
        drop_path: rate of stochastic depth at the last block, increasing linearly from 0 at the first.

    Example:
        >>> import torch
        >>> from seewhy.nets.encoders.mit import MiT
        >>> MiT("mit_nano", stage_strides=(4, 2, 2, 2))(torch.rand(1, 1, 64, 64)).maps[-1].shape
        torch.Size([1, 128, 2, 2])
    """

    def __init__(
        self,
        variant: str = "mit_b1",
        *,
        in_channels: int = 1,
        stage_strides: Sequence[int] = (4, 2, 2, 1),
        attention_blocks: int = 2,
        pre_softmax: bool = True,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if variant not in MIT_VARIANTS:
            raise ConfigError(f"unknown MiT variant {variant!r}; {nearest(variant, MIT_VARIANTS)}")
        shape = MIT_VARIANTS[variant]
        _check(variant, shape, stage_strides, attention_blocks)
        self.variant = variant
        self.in_channels = in_channels
        self.channels = list(shape.widths)
        self.strides = [math.prod(stage_strides[: stage + 1]) for stage in range(4)]
        self.attention_blocks = attention_blocks
        self.attention_heads = attention_blocks * shape.heads[-1]
        count = sum(shape.depths)
        rates = iter([drop_path * number / max(count - 1, 1) for number in range(count)])
        for stage in range(4):
            width, before = shape.widths[stage], (in_channels, *shape.widths)[stage]
            blocks = [
                TransformerBlock(
                    width, shape.heads[stage], REDUCTIONS[stage], drop_path=next(rates), pre_softmax=pre_softmax
                )
                for _ in range(shape.depths[stage])
            ]
            embed = PatchEmbedding(before, width, KERNELS[stage], stage_strides[stage])
            self.add_module(f"patch_embed{stage + 1}", embed)  # the published names count from 1
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(width, eps=1e-6))
        self.apply(_initialise)

    def forward(self, image: ImageBatch, attention: bool = False) -> Features:
        """Encode `image` [B, C, H, W]; `attention` also returns the attention of the last blocks."""
        features, x = Features(maps=[]), image
        for stage in range(1, 5):
            blocks = list(self.get_submodule(f"block{stage}").children())
            first = len(blocks) - (self.attention_blocks if attention and stage == 4 else 0)
            tokens, size = self.get_submodule(f"patch_embed{stage}")(x)
            for number, block in enumerate(blocks):
                tokens, weights = block(tokens, size, attention=number >= first)
                if weights is not None:
                    features.attention.append(weights)
            x = _as_map(self.get_submodule(f"norm{stage}")(tokens), size)
            features.maps.append(x)
        return features

    def attention_layers(self) -> list[nn.Module]:
        """See `Encoder.attention_layers`; the layers of stage 4, whose keys are not reduced."""
        return [block.get_submodule("attn") for block in self.get_submodule("block4").children()]


class PatchEmbedding(nn.Module):
    """A strided convolution with overlapping windows, then LayerNorm: [B, C, H, W] to tokens [B, N, width]."""

    def __init__(self, in_channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the tokens, and height and width of their grid."""
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


class TransformerBlock(nn.Module):
    """Pre-norm attention and Mix-FFN, each with a residual connection."""

    def __init__(self, width: int, heads: int, reduction: int, *, drop_path: float, pre_softmax: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = ReducedAttention(width, heads, reduction, pre_softmax=pre_softmax)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MixFFN(width, 4 * width)
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor, size: tuple[int, int], *, attention: bool = False) -> tuple[Tensor, Attention | None]:
        """Return tokens [B, N, width] and, if requested, the attention [B, heads, N, N]."""
        mixed, weights = self.attn(self.norm1(x), size, attention=attention)
        x = x + self.drop_path(mixed)
        return x + self.drop_path(self.mlp(self.norm2(x), size)), weights


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values come from a map `reduction` times smaller per axis (eq. 2)."""

    def __init__(self, width: int, heads: int, reduction: int, *, pre_softmax: bool) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.pre_softmax = pre_softmax
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, size: tuple[int, int], *, attention: bool) -> tuple[Tensor, Attention | None]:
        """Return mixed tokens [B, N, width] and, if requested, the attention [B, heads, N, M]."""
        q = self._split(self.q(x))
        k, v = (self._split(part) for part in self.kv(self._reduce(x, size)).chunk(2, dim=-1))
        if not attention:
            return self._merge(F.scaled_dot_product_attention(q, k, v)), None
        # Always in float32: unscaled products overflow or lose digits in half precision.
        with torch.autocast(x.device.type, enabled=False):
            logits = q.float() @ k.float().transpose(-2, -1)
            weights = (logits * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self._merge(weights.to(v.dtype) @ v), logits if self.pre_softmax else weights

    def _reduce(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.reduction == 1:
            return x
        missing = [max(0, self.reduction - length) for length in size]
        x = F.pad(_as_map(x, size), (0, missing[1], 0, missing[0]))
        return self.norm(self.sr(x).flatten(2).transpose(1, 2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _merge(self, x: Tensor) -> Tensor:
        return self.proj(x.transpose(1, 2).flatten(2))


class MixFFN(nn.Module):
    """Two linear layers with a 3 x 3 depthwise convolution in between, which encodes positions (eq. 3)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens [B, N, width] to [B, N, width]."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), size)))


class DepthwiseConv(nn.Module):
    """A 3 x 3 depthwise convolution over the map of the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map tokens [B, N, width] to [B, N, width]."""
        return self.dwconv(_as_map(x, size)).flatten(2).transpose(1, 2)


def _as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    turned = tokens.transpose(1, 2)
    return turned.reshape(turned.shape[0], turned.shape[1], *size)  # unflatten would fix the sizes of an export


def _initialise(module: nn.Module) -> None:
    """Initialise linear layers by a truncated normal and convolutions by He's fan-out; norms keep the identity."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _check(variant: str, shape: MiTVariant, stage_strides: Sequence[int], attention_blocks: int) -> None:
    problems = []
    if len(stage_strides) != 4 or any(stride < 1 for stride in stage_strides):
        problems.append(f"stage_strides={list(stage_strides)}: expected four numbers of at least 1")
    if not 0 <= attention_blocks <= shape.depths[-1]:
        problems.append(
            f"attention_blocks={attention_blocks}: {variant} has {shape.depths[-1]} blocks with attention "
            f"between all tokens; choose 0 to {shape.depths[-1]}"
        )
    if problems:
        raise ConfigError(f"{variant}: " + "; ".join(problems))
