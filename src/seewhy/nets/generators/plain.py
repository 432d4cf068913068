"""Plain 2.5D generator without attention, the published baseline of SA-CycleGAN-2.5D."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.nets.generators.base import Generator25D, Output, ValueRange
from seewhy.nets.generators.blocks import InstanceNorm2d

__all__ = ["PlainGenerator25D"]


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
        >>> from seewhy.nets.generators.plain import PlainGenerator25D
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
