"""Heads on an encoder: a classification head whose local logits are the CAM, and SegFormer's decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.types import MapBatch, ScoreBatch

__all__ = ["ClassificationHead", "Pooling", "SegFormerHead"]


class Pooling(nn.Module):
    """Pooling of a map to one value per channel, of the features or of the local logits.

    `gmp` (maximum) and `gap` (mean) pool each *feature*, before the 1 x 1 convolution, as in AFA (Ru et al. 2022): with
    `gmp` the maxima of different features may have different positions; `gap` commutes with the convolution. The other
    names pool the *logits*, after the convolution, so that a threshold means the same for a pixel as for an image:

    - `max`: the largest local logit;
    - `lse`: (1/r) log mean exp(r x), r = `sharpness` (Pinheiro and Collobert 2015): `gap` for r → 0,
      `max` for r → ∞, with a gradient to all pixels in between;
    - `topk`: the mean of the largest `fraction` of the pixels, at least one pixel.

    Args:
        name: one of the above.
        sharpness: r of `lse`, above 0.
        fraction: share of the pixels, for `topk`, in (0, 1].

    Example:
        >>> import torch
        >>> from seewhy.nets.heads import Pooling
        >>> logits = torch.tensor([[[[0.0, 4.0]]]])
        >>> [round(float(Pooling(name)(logits)), 2) for name in ("gap", "lse", "max")]
        [2.0, 3.83, 4.0]
    """

    NAMES = ("gmp", "gap", "max", "lse", "topk")

    def __init__(self, name: str = "lse", *, sharpness: float = 4.0, fraction: float = 0.1) -> None:
        super().__init__()
        if name not in self.NAMES:
            raise ConfigError(f"pooling {name!r} does not exist; {nearest(name, self.NAMES)}")
        if sharpness <= 0 or not 0 < fraction <= 1:
            raise ConfigError(f"pooling: sharpness={sharpness} must be above 0 and fraction={fraction} in (0, 1]")
        self.name = name
        self.sharpness = sharpness
        self.fraction = fraction

    @property
    def of_features(self) -> bool:
        """Whether features are pooled (before the 1 x 1 convolution) rather than logits (after it)."""
        return self.name in ("gmp", "gap")

    def forward(self, x: Tensor) -> Tensor:
        """Pool [B, C, H, W] to [B, C]."""
        x = x.flatten(2)
        if self.name in ("gmp", "max"):
            return x.amax(dim=2)
        if self.name == "gap":
            return x.mean(dim=2)
        if self.name == "lse":
            # In float32: exp(r x) overflows half precision already at r x = 11.
            exponents = self.sharpness * x.float()
            return (exponents.logsumexp(dim=2) - math.log(x.shape[2])) / self.sharpness
        count = max(1, round(self.fraction * x.shape[2]))
        return x.topk(count, dim=2).values.mean(dim=2)

    def extra_repr(self) -> str:
        """Return the name and the option that it uses."""
        option = {"lse": f", sharpness={self.sharpness}", "topk": f", fraction={self.fraction}"}
        return self.name + option.get(self.name, "")


class ClassificationHead(nn.Module):
    """A 1 x 1 convolution and a pooling: image logits, and the local logits that they are computed from.

    The parameters of the convolution are `weight` [num_outputs, in_channels, 1, 1] and `bias` of this module, so that
    a `classifier` of this class has the key of published checkpoints, `classifier.weight`.

    Args:
        in_channels: channels of the encoder's last map.
        num_outputs: foreground classes K.
        pooling: a `Pooling`, or its name for default options.
        bias: whether the convolution has a bias; in AFA it does not.
        prior: initial probability of the local logits, set by the bias (Lin et al. 2017, section 3.3); None starts at
            0.5. Requires `bias`.

    Example:
        >>> import torch
        >>> from seewhy.nets.heads import ClassificationHead
        >>> head, features = ClassificationHead(8, 2, "max"), torch.rand(1, 8, 4, 4)
        >>> torch.equal(head(features), head.activation_map(features).amax(dim=(2, 3)))
        True
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        pooling: Pooling | str = "lse",
        bias: bool = True,
        *,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        if prior is not None and not (bias and 0 < prior < 1):
            raise ConfigError(f"classification head: prior={prior}; expected a value in (0, 1), with bias=True")
        self.pooling = Pooling(pooling) if isinstance(pooling, str) else pooling
        self.weight = nn.Parameter(torch.empty(num_outputs, in_channels, 1, 1))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if bias:
            start = 0.0 if prior is None else math.log(prior / (1 - prior))
            self.bias = nn.Parameter(torch.full((num_outputs,), start))
        else:
            self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> ScoreBatch:
        """Compute image logits [B, K] from the encoder's last map [B, C, h, w]."""
        if self.pooling.of_features:
            return self.activation_map(self.pooling(features)[..., None, None]).flatten(1)
        return self.pooling(self.activation_map(features))

    def activation_map(self, features: Tensor) -> MapBatch:
        """Compute local logits [B, K, h, w] of features [B, C, h, w]: the class activation map before any ReLU."""
        return F.conv2d(features, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return input and output channels."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"


class SegFormerHead(nn.Module):
    """SegFormer's all-MLP decoder (Xie et al. 2021, eq. 4): project each map, upsample, fuse, classify.

    Args:
        channels: channels of the encoder's maps, fine to coarse.
        num_classes: number of classes, including the background.
        dim: channels of each projected map.
        dropout: probability of dropping a channel before the last layer in training.

    Example:
        >>> import torch
        >>> from seewhy.nets.heads import SegFormerHead
        >>> head = SegFormerHead([8, 16], num_classes=3, dim=4)
        >>> head([torch.rand(1, 8, 16, 16), torch.rand(1, 16, 8, 8)]).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(self, channels: Sequence[int], num_classes: int, dim: int = 256, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.levels = len(channels)
        for number, width in enumerate(channels, start=1):
            self.add_module(f"linear_c{number}", Projection(width, dim))
        self.linear_fuse = Fusion(self.levels * dim, dim)
        self.dropout = nn.Dropout2d(dropout)
        self.linear_pred = nn.Conv2d(dim, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute logits [B, num_classes, h, w] at the size of the finest map, from maps fine to coarse."""
        # Projection and fusion are linear with nothing in between, so their matrices are multiplied first, and a
        # 1 x 1 convolution commutes with bilinear upsampling, so each level is fused at its own size. This gives the
        # result of the paper's order (tests/nets/test_heads.py) with an eighth of its multiplications.
        parts = self.linear_fuse.conv.weight.flatten(1).chunk(self.levels, dim=1)[::-1]  # published order: coarse first
        by_size: dict[tuple[int, ...], Tensor] = {}
        for number, (x, part) in enumerate(zip(maps, parts, strict=True), start=1):
            proj = cast(nn.Linear, self.get_submodule(f"linear_c{number}").proj)
            level = F.conv2d(x, (part @ proj.weight)[..., None, None], part @ proj.bias)
            size = tuple(x.shape[-2:])
            by_size[size] = by_size[size] + level if size in by_size else level
        finest = tuple(maps[0].shape[-2:])
        fused = sum(
            (
                level if size == finest else F.interpolate(level, size=finest, mode="bilinear", align_corners=False)
                for size, level in by_size.items()
            ),
            start=maps[0].new_zeros(()),
        )
        return self.linear_pred(self.dropout(F.relu(self.linear_fuse.bn(fused))))


class Projection(nn.Module):
    """Linear layer on the channels of a map; its weights have the published names."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, dim)


class Fusion(nn.Module):
    """1 x 1 convolution and batch normalisation with the published names (Lightning can convert it to SyncBN)."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
