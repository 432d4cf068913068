"""What a generator and a discriminator want of the discriminator's scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest

__all__ = ["AdversarialLoss"]

NAMES = ("lsgan", "hinge")


class AdversarialLoss(nn.Module):
    """Losses of score maps at one or more scales, whose mean is taken, in float32.

    `lsgan` (Mao 2017, eq. 9): squared distance of real scores from 1 and fake ones from 0; the generator's of its
    fakes' from 1. `hinge` (Lim and Ye 2017; Miyato 2018, eq. 16 and 17): real scores should be above 1 and fake ones
    below -1; the generator wants them high.

    Args:
        name: `lsgan` or `hinge`.
    """

    def __init__(self, name: str = "lsgan") -> None:
        super().__init__()
        if name not in NAMES:
            raise ConfigError(f"model.losses.adversarial={name!r} is unknown; {nearest(name, NAMES)}")
        self.name = name

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the generator.

        Args:
            fake: scores [B, 1, h, w] of its images, one map per scale, with graph.
        """
        if self.name == "lsgan":
            return _mean([(scores.float() - 1).square().mean() for scores in fake])
        return _mean([-scores.float().mean() for scores in fake])

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the discriminator: that of real images plus that of fakes.

        Args:
            real: scores [B, 1, h, w] of real images, one map per scale.
            fake: the same of generated ones, made without a graph to the generator.
        """
        if self.name == "lsgan":
            losses = [
                (true.float() - 1).square().mean() + false.float().square().mean()
                for true, false in zip(real, fake, strict=True)
            ]
        else:
            losses = [
                (1 - true.float()).relu().mean() + (1 + false.float()).relu().mean()
                for true, false in zip(real, fake, strict=True)
            ]
        return _mean(losses)

    def extra_repr(self) -> str:
        """Which."""
        return self.name


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
