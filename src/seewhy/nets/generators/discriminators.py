"""Networks that only the training of a generator needs: patch discriminators with spectral norm, and patch samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrize

from seewhy.errors import ConfigError
from seewhy.nets.generators.base import ValueRange, check_range, to_net
from seewhy.nets.generators.blocks import InstanceNorm2d, SelfAttention2d
from seewhy.option_types import NonNegativeInt

__all__ = [
    "MultiScaleDiscriminator",
    "PatchDiscriminator",
    "PatchSampler",
    "SpectralNorm",
    "draw_places",
    "spectral_norm",
]

EPS = 1e-12
FIRST_ITERATIONS = 15
"""Power iterations of new weights, as in torch."""


def spectral_norm(conv: nn.Conv2d) -> nn.Conv2d:
    """Divide the weights of a convolution by their largest singular value, see `SpectralNorm`.

    Names in state dicts are those of `torch.nn.utils.parametrizations.spectral_norm`.
    """
    parametrize.register_parametrization(conv, "weight", SpectralNorm(conv.weight))
    return conv


class SpectralNorm(nn.Module):
    """W / σ with σ = uᵀ W v, where u and v follow W by one power iteration per use in training (Miyato 2018).

    The values are those of torch. The gradient is written out as (G - ⟨G, W/σ⟩ u vᵀ) / σ (there, equation 12): it needs
    one matrix like W, while automatic differentiation creates five. It is part of the lead over a straightforward
    implementation in benchmarks/cyclegan.py (docs/results.md).

    Args:
        weight: [out, …], new weights.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, length in zip(("_u", "_v"), matrix.shape, strict=True):
            self.register_buffer(name, F.normalize(matrix.new_empty(length).normal_(), dim=0, eps=EPS))
        self._iterate(matrix, FIRST_ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        """Compute weights [out, …] whose largest singular value is 1."""
        if self.training:
            self._iterate(weight.detach().flatten(1), 1)
        # Cloned, since the next use changes them before the gradient of this one is computed.
        return cast(Tensor, _Divided.apply(weight, self._u.clone(), self._v.clone()))

    def right_inverse(self, value: Tensor) -> Tensor:
        """Assigned weights are stored before the division."""
        return value

    @torch.no_grad()
    def _iterate(self, matrix: Tensor, count: int) -> None:
        for _ in range(count):
            self._u.copy_(F.normalize(matrix @ self._v, dim=0, eps=EPS))
            self._v.copy_(F.normalize(matrix.mT @ self._u, dim=0, eps=EPS))


class _Divided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        sigma = torch.dot(u, weight.flatten(1) @ v)
        divided = weight / sigma
        ctx.save_for_backward(divided, sigma, u, v)
        return divided

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, None, None]:
        divided, sigma, u, v = ctx.saved_tensors
        # A backward inside autocast would compute the outer product in half precision on a GPU.
        with torch.autocast(pull.device.type, enabled=False):
            along = torch.dot(pull.flatten(), divided.flatten())
            return torch.addr(pull.flatten(1), u * -along, v).div_(sigma).view_as(pull), None, None


SMALLEST = 24
"""Smallest image side of a `PatchDiscriminator`; with a smaller image, a map of one position would be normalised."""


class MultiScaleDiscriminator(nn.Module):
    """One `PatchDiscriminator` for the image and one for each copy at half the size (Wang 2018, section 3.2).

    Args:
        channels: channels of the image.
        width: see `PatchDiscriminator`.
        scales: number of scales, 2 as published.
        attention: see `PatchDiscriminator`.
        value_range: range that the layers work on, see `ValueRange`; images are always in [-1, 1].
        logit_limit: see `PatchDiscriminator`.
        halvings: how often images are halved before the first scale; noise and sharpness are judged less then.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.discriminators import MultiScaleDiscriminator
        >>> [tuple(scores.shape) for scores in MultiScaleDiscriminator(width=8)(torch.rand(1, 4, 64, 64))]
        [(1, 1, 6, 6), (1, 1, 2, 2)]
    """

    def __init__(
        self,
        *,
        channels: int = 4,
        width: int = 64,
        scales: int = 2,
        attention: bool = True,
        value_range: ValueRange = "symmetric",
        logit_limit: float | None = None,
        halvings: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if scales < 1 or halvings < 0:
            raise ConfigError(
                f"model.discriminator.scales={scales} must be at least 1, model.discriminator.halvings={halvings} at "
                "least 0"
            )
        self.value_range = check_range(value_range, "model.discriminator.value_range")
        self.halvings, last = halvings, halvings + scales - 1
        self.smallest = (SMALLEST - 1) * 2**last + 1  # a side of 47 is halved to 24
        self.discriminators = nn.ModuleList(
            PatchDiscriminator(channels=channels, width=width, attention=attention, logit_limit=logit_limit)
            for _ in range(scales)
        )
        self.downsample = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute scores [B, 1, h, w] of the patches of images [B, channels, H, W], one map per scale, finest first.

        Raises:
            ConfigError: images too small for the coarsest scale.
        """
        if min(image.shape[2:]) < self.smallest:
            raise ConfigError(
                f"the discriminator got images of {tuple(image.shape[2:])}; {len(self.discriminators)} scales after "
                f"{self.halvings} halvings need sides of at least {self.smallest}: increase data.image_size or use "
                "fewer scales"
            )
        scores, image = [], to_net(image, self.value_range)
        for _ in range(self.halvings):
            image = self.downsample(image)
        for number, discriminator in enumerate(self.discriminators):
            image = self.downsample(image) if number else image
            scores.append(discriminator(image))
        return scores


class PatchDiscriminator(nn.Module):
    """A score for each patch of 70 x 70 pixels (PatchGAN, Isola 2017), with spectral norm (Miyato 2018).

    With attention, as published, `model` has its convolutions at 0, 2, 5, 9 and 12 (biases at the first and last) and
    self-attention at 8. Without attention, as in the published baseline, the convolutions are
    `model.{0,1,2}.block.0`, `model.3` and `model.6`, all with biases.

    Args:
        channels: channels of the image.
        width: channels after the first convolution, up to 8 times as many at the end.
        attention: whether to use self-attention.
        logit_limit: limit of self-attention, see `SelfAttention2d`; 50 as published.
    """

    def __init__(
        self, *, channels: int = 4, width: int = 64, attention: bool = True, logit_limit: float | None = None
    ) -> None:
        super().__init__()
        bias = not attention
        first = [_conv(channels, width, 2), nn.LeakyReLU(0.2, inplace=True)]
        second = _normed(width, 2 * width, 2, bias=bias)
        third = _normed(2 * width, 4 * width, 2, bias=bias)
        last = [*_normed(4 * width, 8 * width, 1, bias=bias), _conv(8 * width, 1, 1)]
        if attention:
            middle = SelfAttention2d(4 * width, reduction=8, logit_limit=logit_limit)
            self.model = nn.Sequential(*first, *second, *third, middle, *last)
        else:
            self.model = nn.Sequential(*(_Block(layers) for layers in (first, second, third)), *last)

    def forward(self, image: Tensor) -> Tensor:
        """Compute scores [B, 1, h, w] of images [B, channels, H, W]."""
        return self.model(image)


class SpectralConv2d(nn.Conv2d):
    """Convolution with spectral norm, whose weight is computed in full precision also under autocast."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Conv2d
        """See `nn.Conv2d`."""
        with torch.autocast(input.device.type, enabled=False):  # the power iteration fails in half precision
            weight = self.weight
        return self._conv_forward(input, weight, self.bias)


class _Block(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def _conv(channels: int, width: int, stride: int, *, bias: bool = True) -> nn.Module:
    return spectral_norm(SpectralConv2d(channels, width, 4, stride, 1, bias=bias))


def _normed(channels: int, width: int, stride: int, *, bias: bool) -> list[nn.Module]:
    conv = _conv(channels, width, stride, bias=bias)
    return [conv, InstanceNorm2d(width), nn.LeakyReLU(0.2, inplace=True)]


def draw_places(size: tuple[int, int], count: int, *, batch: int, foreground: Tensor | None, like: Tensor) -> Tensor:
    """Draw random positions of a map without replacement, first from the foreground.

    Args:
        size: (h, w) of the map.
        count: number of positions, at most those of the map.
        batch: B.
        foreground: [B, 1, H, W] bool at any size, or None for the whole map. A position is foreground if any of its
            pixels is.
        like: a tensor on the device of the map.

    Returns:
        [B, P] int64, row-major indices of positions.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.discriminators import draw_places
        >>> foreground = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> foreground[..., 0, 2:] = True
        >>> sorted(draw_places((4, 4), 2, batch=1, foreground=foreground, like=foreground)[0].tolist())
        [2, 3]
    """
    order = torch.rand(batch, size[0] * size[1], device=like.device)
    if foreground is not None:
        order = order + F.adaptive_max_pool2d(foreground.to(order), size).flatten(1)
    return order.topk(min(count, order.shape[1]), dim=1).indices


class PatchSampler(nn.Module):
    """Unit vectors of sampled positions of several maps, with one small network per map (CUT, Park 2020, F of eq. 2).

    Args:
        channels: channels of each map.
        dim: length of the vectors.
        patches: positions per map.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.discriminators import PatchSampler
        >>> sampler = PatchSampler([4, 8], dim=16, patches=5)
        >>> maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)]
        >>> vectors, places = sampler(maps)
        >>> [tuple(v.shape) for v in vectors], torch.equal(sampler(maps, places)[0][0], vectors[0])
        ([(2, 5, 16), (2, 5, 16)], True)
    """

    def __init__(self, channels: Sequence[int], *, dim: int = 256, patches: int = 256) -> None:
        super().__init__()
        if patches < 2:
            raise ConfigError(f"model.nce.patches={patches}; expected at least 2, since patches are compared")
        self.patches = patches
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim)) for width in channels
        )

    def forward(
        self,
        features: Sequence[Tensor],
        places: Sequence[Tensor] | None = None,
        *,
        foreground: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the vectors of given positions, or of new random positions.

        Args:
            features: maps [B, C, h, w].
            places: positions [B, P] of each map, as returned by an earlier call; None draws new ones.
            foreground: [B, 1, H, W] bool, where to draw; None is everywhere.

        Returns:
            Vectors [B, P, dim] float32 of length 1 and positions [B, P], for each map.
        """
        if places is None:
            places = [
                draw_places((x.shape[2], x.shape[3]), self.patches, batch=len(x), foreground=foreground, like=x)
                for x in features
            ]
        vectors = []
        for x, where, project in zip(features, places, self.projections, strict=True):
            index = where[:, :, None].expand(-1, -1, x.shape[1])
            sampled = x.flatten(2).mT.gather(1, index)
            vectors.append(F.normalize(project(sampled).float(), dim=2))
        return vectors, list(places)
