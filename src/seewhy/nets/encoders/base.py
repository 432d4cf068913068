"""What every encoder gives and says about itself, so that heads and methods need not know which one it is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.types import Attention, ImageBatch

__all__ = ["Encoder", "Features", "pad_to_multiple"]


@dataclass
class Features:
    """The maps of one encoder pass.

    Attributes:
        maps: fine to coarse, each [B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])]; the last one
            is what a classification head reads.
        attention: of the last n blocks in order, each [B, heads, N, N] float32, N the tokens of the last map in
            row-major order, rows are queries; empty unless asked for.
    """

    maps: list[Tensor]
    attention: list[Attention] = field(default_factory=list)


class Encoder(nn.Module):
    """Base of all encoders: an image in, maps and, where there is attention, the attention between tokens out.

    Attributes:
        in_channels: channels of the image.
        channels: channels of each map, fine to coarse.
        strides: pixels of the image per pixel of each map, fine to coarse.
        attention_heads: total heads over the returned blocks; 0 where there is no attention between all tokens
            of the last map.
    """

    in_channels: int
    channels: list[int]
    strides: list[int]
    attention_heads: int = 0

    def forward(self, image: ImageBatch, attention: bool = False) -> Features:
        """Encode `image` [B, in_channels, H, W] of any size; `attention` also returns the attention."""
        raise NotImplementedError

    def attention_layers(self) -> list[nn.Module]:
        """Submodules, first to last, with attention between all tokens of the last map; none in most encoders."""
        return []


def pad_to_multiple(image: ImageBatch, multiple: int, *, least: int = 1) -> ImageBatch:
    """Repeat the last row and column of `image` [B, C, H, W] until both sizes divide by `multiple`.

    Edges are repeated because 0 is no neutral value of a normalised image (it is its mean, not its background).

    Args:
        image: [B, C, H, W].
        multiple: what both sizes are to divide by.
        least: smallest size allowed, itself a multiple.
    """
    height, width = image.shape[-2:]
    bottom = max(least, height + -height % multiple) - height
    right = max(least, width + -width % multiple) - width
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
