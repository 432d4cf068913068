"""Instance normalisation, by the quicker of torch's kernels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["InstanceNorm2d"]


class InstanceNorm2d(nn.InstanceNorm2d):
    """Each map of each image to mean 0 and variance 1 (Ulyanov 2016, equation 4): nothing to learn, nothing to keep.

    On CPUs, normalising groups of one channel gives the same numbers several times faster. Its gradient is slow
    where channels come last, and under autocast on CUDA it would turn half precision into single, so torch's own
    kernel has those.

    Args:
        channels: of a map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.InstanceNorm2d
        """[B, C, H, W] of [B, C, H, W]."""
        if input.device.type == "cpu" and (input.is_contiguous() or not input.requires_grad):
            return F.group_norm(input, input.shape[1], eps=self.eps)
        return super().forward(input)
