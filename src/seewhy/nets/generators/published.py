"""Generators of SA-CycleGAN-2.5D as published: with CBAM gates and self-attention, and the plain baseline."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.nets.generators.base import Generator25D, Output, ValueRange
from seewhy.nets.generators.blocks import CBAM, InstanceNorm2d, SelfAttention2d

__all__ = ["NCE_CHANNELS", "PlainGenerator25D", "SAGenerator25D"]

NCE_CHANNELS = (1, 2, 4, 4, 4)
"""Channels of `SAGenerator25D.features`, in widths."""


class SAGenerator25D(Generator25D):
    """The published SA generator: CBAM after each convolution, self-attention between distant positions.

    Parameters have the names of published checkpoints (88 tensors):

    - `encoder_initial.slice_conv.1.weight` [W, channels, 7, 7], `encoder_initial.slice_attention.*` (CBAM);
    - `encoder.{0,1}.0.weight`, `encoder.{0,1}.3.*` (CBAM);
    - `bottleneck.{i}.conv.{1,5}.weight`, `bottleneck.{i}.attention.*` (CBAM, or `query`, `key`, `value`, `gamma`);
    - `global_attention.*` (self-attention);
    - `decoder.{0,1}.0.weight`, `decoder.{0,1}.3.*` (CBAM), `skip_fuse.{0,1}.weight`, `output.1.{weight,bias}`.

    As published, the first stage of the decoder uses the *last* map of the encoder, enlarged, and the second stage the
    map before it; the map at full size is not used again.

    Args:
        slices: neighbouring slices in a stack, odd.
        modalities: channels of a slice.
        width: W, channels at full size; 2 W and 4 W at lower sizes.
        blocks: residual blocks at a quarter of the size.
        attention_blocks: indices of blocks with self-attention instead of CBAM, from 0.
        output: see `Output`.
        value_range: range that the layers work on, see `ValueRange`; stacks and slices are always in [-1, 1].
        logit_limit: limit of self-attention, see `SelfAttention2d`; 50 as published.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.published import SAGenerator25D
        >>> net = SAGenerator25D(width=8, blocks=2, attention_blocks=[1])
        >>> net(torch.rand(1, 12, 16, 16)).shape
        torch.Size([1, 4, 16, 16])
    """

    def __init__(
        self,
        *,
        slices: int = 3,
        modalities: int = 4,
        width: int = 64,
        blocks: int = 9,
        attention_blocks: Sequence[int] = (3, 4, 5),
        output: Output = "tanh",
        value_range: ValueRange = "symmetric",
        logit_limit: float | None = None,
    ) -> None:
        super().__init__(slices=slices, modalities=modalities, output=output, value_range=value_range)
        if wrong := [number for number in attention_blocks if not 0 <= number < blocks]:
            raise ConfigError(f"model.generator.attention_blocks={wrong} do not exist; expected 0 to {blocks - 1}")
        self.encoder_initial = _Stem(self.channels, width)
        self.encoder = nn.ModuleList(_make_down(width * scale) for scale in (1, 2))
        self.bottleneck = nn.ModuleList(
            _Residual(
                4 * width,
                SelfAttention2d(4 * width, reduction=8, logit_limit=logit_limit)
                if number in attention_blocks
                else CBAM(4 * width),
            )
            for number in range(blocks)
        )
        self.global_attention = SelfAttention2d(4 * width, reduction=4, logit_limit=logit_limit)
        self.decoder = nn.ModuleList(_make_up(width * scale) for scale in (4, 2))
        self.skip_fuse = nn.ModuleList(nn.Conv2d(width * scale, width * scale // 2, 1, bias=False) for scale in (4, 2))
        last = nn.Conv2d(width, modalities, 7)
        self.output = nn.Sequential(nn.ReflectionPad2d(3), last)
        self.start(last)

    def forward(self, stack: Tensor) -> Tensor:
        """Translate the centre slices [B, modalities, H, W] of stacks [B, slices * modalities, H, W]."""
        maps = self._encode(self.enter(stack))
        x = maps[-1]
        for block in self.bottleneck:
            x = block(x)
        x = self.global_attention(x)
        for up, fuse, skip in zip(self.decoder, self.skip_fuse, maps[:0:-1], strict=True):
            x = up(x)
            # A 1 x 1 convolution commutes with the enlargement; before it, it is cheaper.
            x = x + F.interpolate(fuse(skip), size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.finish(self.output(x), stack)

    def features(self, stack: Tensor) -> list[Tensor]:
        """Compute the maps for PatchNCE (Park 2020): of the stem, both downward stages, and blocks 2 and 5.

        With fewer blocks, the last ones are used. Channels are `NCE_CHANNELS` times the width.
        """
        maps = self._encode(self.enter(stack))
        inner, last = maps[-1:], len(self.bottleneck) - 1
        for block in self.bottleneck[: min(5, last) + 1]:
            inner.append(block(inner[-1]))
        return maps + [inner[min(number, last) + 1] for number in (2, 5)]

    def _encode(self, stack: Tensor) -> list[Tensor]:
        """Compute maps at full, half and quarter size."""
        maps = [self.encoder_initial(stack)]
        for down in self.encoder:
            maps.append(down(maps[-1]))
        return maps


class _Stem(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.slice_conv = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, width, 7, bias=False),
            InstanceNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.slice_attention = CBAM(width)

    def forward(self, stack: Tensor) -> Tensor:
        return self.slice_attention(self.slice_conv(stack))


class _Residual(nn.Module):
    """Two convolutions with attention on their residual."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            InstanceNorm2d(width),
        )
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.conv(x))


def _make_down(width: int) -> nn.Sequential:
    """Make a stage with half the size and twice the channels."""
    conv = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
    return nn.Sequential(conv, InstanceNorm2d(2 * width), nn.ReLU(inplace=True), CBAM(2 * width))


def _make_up(width: int) -> nn.Sequential:
    """Make a stage with twice the size and half the channels."""
    conv = nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1, bias=False)
    return nn.Sequential(conv, InstanceNorm2d(width // 2), nn.ReLU(inplace=True), CBAM(width // 2))


class PlainGenerator25D(Generator25D):
    """The published baseline: a ResNet generator (Johnson 2016) with zero padding, without attention or skips.

    Parameters have the names of published checkpoints: `initial.0`, `down{1,2}.conv`,
    `residual_blocks.{i}.conv{1,2}`, `up{1,2}.conv`, `output.0`, each with weight and bias.

    Args:
        slices: see `SAGenerator25D`.
        modalities: see `SAGenerator25D`.
        width: see `SAGenerator25D`.
        blocks: see `SAGenerator25D`.
        output: see `Output`.
        value_range: see `SAGenerator25D`.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.published import PlainGenerator25D
        >>> net = PlainGenerator25D(width=4, blocks=1, output="residual")
        >>> stack = torch.rand(1, 12, 16, 16)
        >>> torch.equal(net(stack), stack[:, 4:8])  # a residual generator starts as the identity
        True
    """

    def __init__(
        self,
        *,
        slices: int = 3,
        modalities: int = 4,
        width: int = 64,
        blocks: int = 9,
        output: Output = "tanh",
        value_range: ValueRange = "symmetric",
    ) -> None:
        super().__init__(slices=slices, modalities=modalities, output=output, value_range=value_range)
        self.initial = nn.Sequential(
            nn.Conv2d(self.channels, width, 7, padding=3), InstanceNorm2d(width), nn.ReLU(inplace=True)
        )
        self.down1, self.down2 = (
            _Step(nn.Conv2d(width * scale, 2 * width * scale, 3, 2, 1), 2 * width * scale) for scale in (1, 2)
        )
        self.residual_blocks = nn.ModuleList(_PlainResidual(4 * width) for _ in range(blocks))
        self.up1, self.up2 = (
            _Step(nn.ConvTranspose2d(width * scale, width * scale // 2, 3, 2, 1, 1), width * scale // 2)
            for scale in (4, 2)
        )
        last = nn.Conv2d(width, modalities, 7, padding=3)
        self.output = nn.Sequential(last)
        self.start(last)

    def forward(self, stack: Tensor) -> Tensor:
        """See `SAGenerator25D.forward`."""
        x = self.down2(self.down1(self.initial(self.enter(stack))))
        for block in self.residual_blocks:
            x = block(x)
        return self.finish(self.output(self.up2(self.up1(x))), stack)


class _Step(nn.Module):
    def __init__(self, conv: nn.Module, width: int) -> None:
        super().__init__()
        self.conv, self.norm = conv, InstanceNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class _PlainResidual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = InstanceNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv2(F.relu(self.norm(self.conv1(x)), inplace=True)))
