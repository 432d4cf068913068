"""A small fully convolutional encoder that trains from scratch on a few patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from seewhy.errors import ConfigError
from seewhy.nets.encoders.base import Encoder, Features
from seewhy.options import check_choice
from seewhy.types import ImageBatch

__all__ = ["CNN"]


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda width: nn.GroupNorm(math.gcd(8, width), width),
    "instance": lambda width: nn.InstanceNorm2d(width, affine=True),
}


class CNN(Encoder):
    """Levels of 3 x 3 convolution, normalisation and ReLU, one map per level, without attention.

    It has few parameters and a small field of view on purpose: with few patients, a large network memorises the
    patients, while a classifier with a small field of view has to find the lesion at its position.

    Args:
        in_channels: channels of the image.
        widths: channels per level; their number is the number of levels.
        depths: convolutions per level; one each gives a field of view of 23 pixels, too small to identify a patient.
        stage_strides: stride of the first convolution of each level; with (2, 2, 1, 1) the last map, which is
            classified, has 1/4 of the size.
        dilations: dilation of the convolutions of each level.
        norm: `batch`, `group` (8 groups, or fewer if the width is not divisible) or `instance`. The latter two use
            statistics of the whole image in evaluation, too, so that evidence for a lesion can appear anywhere in it.
        dropout: probability of dropping a channel of the last map in training.

    Example:
        >>> import torch
        >>> from seewhy.nets.encoders.cnn import CNN
        >>> [tuple(x.shape) for x in CNN(widths=(4, 8, 8, 8))(torch.rand(1, 1, 32, 30)).maps]
        [(1, 4, 16, 15), (1, 8, 8, 8), (1, 8, 8, 8), (1, 8, 8, 8)]
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 32, 48, 64),
        depths: Sequence[int] = (1, 1, 1, 1),
        stage_strides: Sequence[int] = (2, 2, 1, 1),
        dilations: Sequence[int] = (1, 1, 1, 1),
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(widths=widths, depths=depths, stage_strides=stage_strides, dilations=dilations)
        check_choice(norm, NORMS, "cnn.norm")
        self.in_channels = in_channels
        self.channels = list(widths)
        self.strides = [math.prod(stage_strides[: level + 1]) for level in range(len(widths))]
        self.levels = nn.ModuleList()
        before = in_channels
        for width, depth, stride, dilation in zip(widths, depths, stage_strides, dilations, strict=True):
            layers: list[nn.Module] = []
            for number in range(depth):
                step = stride if number == 0 else 1
                layers += _make_layer(before, width, stride=step, dilation=dilation, norm=NORMS[norm])
                before = width
            self.levels.append(nn.Sequential(*layers))
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, image: ImageBatch, attention: bool = False) -> Features:
        """Encode `image` [B, C, H, W] of any size, without attention."""
        maps = []
        x = image
        for level in self.levels:
            x = level(x)
            maps.append(x)
        maps[-1] = self.dropout(maps[-1])
        return Features(maps=maps)


def _make_layer(
    before: int, width: int, *, stride: int, dilation: int, norm: Callable[[int], nn.Module]
) -> list[nn.Module]:
    # With padding equal to the dilation, a 3 x 3 kernel gives ceil(size / stride) for every size.
    conv = nn.Conv2d(before, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, norm(width), nn.ReLU(inplace=True)]


def _check(**options: Sequence[int]) -> None:
    lengths = {name: len(values) for name, values in options.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ConfigError(f"cnn: {', '.join(lengths)} must have one entry per level; their lengths are {lengths}")
    wrong = [f"{name}={list(values)}" for name, values in options.items() if min(values) < 1]
    if wrong:
        raise ConfigError(f"cnn: entries must be at least 1: {', '.join(wrong)}")
