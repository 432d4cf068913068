"""Average of the weights at the ends of the last epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from seewhy.callbacks.ema import AveragedWeights
from seewhy.errors import ConfigError
from seewhy.option_types import Fraction, PositiveFloat

__all__ = ["StochasticWeightAveraging"]


class StochasticWeightAveraging(AveragedWeights):
    """Mean of the weights at the ends of the last epochs (Izmailov 2018); see `AveragedWeights`.

    Until the first of these epochs has ended, validation and checkpoints have the trained weights. Statistics of batch
    normalisation are averaged like weights, without another pass over the data. It works with several optimisers, whose
    learning rates are all set to `lr`.

    Args:
        start: share of the epochs after which averaging begins.
        lr: constant learning rate from then on; None keeps the schedule.

    Raises:
        ConfigError: a share of 1 or more, or a training without an end.
    """

    def __init__(self, *, start: Fraction = 0.75, lr: PositiveFloat | None = None) -> None:
        if not 0.0 <= start < 1.0:
            raise ConfigError(f"callbacks.swa.start={start} must be 0 or more and below 1, e.g. 0.75")
        super().__init__(use_buffers=True, multi_avg_fn=_update_means)
        self.start, self.lr = start, lr

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the training has an end."""
        if stage == "fit" and (trainer.max_epochs is None or trainer.max_epochs < 1):
            raise ConfigError(f"callbacks.swa: trainer.max_epochs={trainer.max_epochs} must be a number of epochs")
        super().setup(trainer, pl_module, stage)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the constant learning rate."""
        if self.lr is not None and self._is_averaging(trainer):
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.lr

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights after the last batch of an epoch, before they are validated."""
        if trainer.is_last_batch and self._is_averaging(trainer):
            self._average.update_parameters(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the last batch has done it."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the average as the weights."""
        if self._count():
            super().on_train_end(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average, if there is one."""
        if self._count():
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the trained weights."""
        if self._count():
            super().on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average, if there is one."""
        if self._count():
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average of a checkpoint that has one."""
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    @property
    def _average(self) -> Any:
        return self._average_model

    def _count(self) -> int:
        """Number of epochs in the average."""
        return 0 if self._average is None else int(self._average.n_averaged)

    def _is_averaging(self, trainer: Trainer) -> bool:
        return trainer.current_epoch >= int(self.start * int(trainer.max_epochs or 1))


@torch.no_grad()
def _update_means(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
    """Update the means of all tensors of one device and type; counts and flags are copied."""
    if averages[0].is_floating_point():
        torch._foreach_lerp_(list(averages), list(values), 1.0 / (int(updates) + 1))
    else:
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)
