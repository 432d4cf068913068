"""Interface of all encoders: their maps, attention, channels and strides."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.types import Attention, ImageBatch

__all__ = ["Encoder", "Features", "is_channels_last", "pad_to_multiple"]


@dataclass
class Features:
    """The maps of one encoder pass.

    Attributes:
        maps: fine to coarse, each [B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])]; the last one is the
            input of a classification head.
        attention: attention of the last n blocks in order, each [B, heads, N, N] float32, N the tokens of the last map
            in row-major order, rows are queries; empty unless requested.
    """

    maps: list[Tensor]
    attention: list[Attention] = field(default_factory=list)


class Encoder(nn.Module):
    """Base class of encoders: from an image to maps and, if available, the attention between tokens.

    Attributes:
        in_channels: channels of the image.
        channels: channels of each map, fine to coarse.
        strides: pixels of the image per pixel of each map, fine to coarse.
        attention_heads: total heads over the returned blocks; 0 without attention between all tokens of the last map.
    """

    in_channels: int
    channels: list[int]
    strides: list[int]
    attention_heads: int = 0

    def forward(self, image: ImageBatch, attention: bool = False) -> Features:
        """Encode `image` [B, in_channels, H, W] of any size; `attention` also returns the attention."""
        raise NotImplementedError

    def attention_layers(self) -> list[nn.Module]:
        """Return submodules with attention between all tokens of the last map, first to last; most have none."""
        return []


def is_channels_last(net: nn.Module) -> bool:
    """Whether a network of timm returns maps [B, H, W, C], as Swin does; others do not state their format."""
    return str(getattr(net, "output_fmt", "NCHW")).upper().endswith("NHWC")


def pad_to_multiple(image: ImageBatch, multiple: int, *, least: int = 1) -> ImageBatch:
    """Repeat the last row and column of `image` [B, C, H, W] until both sizes divide by `multiple`.

    Edges are repeated because 0 is the mean of a normalised image, not its background.

    Args:
        image: [B, C, H, W].
        multiple: divisor of both sizes.
        least: smallest size allowed, itself a multiple.

    Example:
        >>> import torch
        >>> from seewhy.nets.encoders.base import pad_to_multiple
        >>> pad_to_multiple(torch.rand(1, 1, 30, 33), 16).shape
        torch.Size([1, 1, 32, 48])
    """
    height, width = image.shape[-2:]
    bottom = max(least, height + -height % multiple) - height
    right = max(least, width + -width % multiple) - width
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
