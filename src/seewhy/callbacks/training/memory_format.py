"""Keep weights in the memory format that GPUs compute fastest with in mixed precision."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["ChannelsLast"]

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory format by the number of axes of a weight."""


class ChannelsLast(Callback):
    """Stores the weights of convolutions with channels last; results of layers follow their weights."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Convert the weights, before optimisers and averages are made of them."""
        for parameter in pl_module.parameters():
            if parameter.dim() in FORMATS:
                parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
