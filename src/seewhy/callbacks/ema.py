"""Averages of the weights for validation, checkpoints and test: exponential, and of the ends of the last epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.models.protocols import HasMeasuredBuffers, HasUnaveragedParts
from seewhy.option_types import Fraction, PositiveFloat

__all__ = ["AveragedWeights", "ExponentialMovingAverage", "StochasticWeightAveraging"]

SPECTRAL = ("._u", "._v")
"""Endings of the buffer names of spectral norms."""


class AveragedWeights(WeightAveraging):
    """Base of averages of weights and batch statistics, on Lightning's `WeightAveraging`.

    Validation, `best.ckpt` and `last.ckpt` have the averaged weights as their `state_dict`. The trained weights are
    kept in the same checkpoint, so that a continued training starts from them. Not averaged are the vectors of
    spectral norms, which fit only the weights that they were iterated with, and the tensors that a model declares:
    `measured_buffers` (e.g. a calibrated temperature) and `unaveraged`, parts that only training needs (e.g.
    discriminators).

    Raises:
        ConfigError: two averages at once.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average."""
        if sum(isinstance(item, AveragedWeights) for item in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise ConfigError("callbacks.ema and callbacks.swa both average the weights; set one of them to null")
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the model's device, and let tensors that are not averaged share the model's memory."""
        average: Any = self._average_model
        average.to(self._device or pl_module.device)
        live = dict(_named_tensors(pl_module))
        for name, tensor in _named_tensors(average.module):
            if _is_left_out(pl_module, name):
                tensor.data = live[name].data

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average when a training is continued; a test uses the averaged weights of `state_dict`."""
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Delete the average after training, so that no later validation swaps old weights in."""
        super().teardown(trainer, pl_module, stage)
        if stage == "fit":
            self._average_model = None


class ExponentialMovingAverage(AveragedWeights):
    """Exponential moving average of weights and batch statistics; see `AveragedWeights`.

    One update follows each step, also where several optimisers step together.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the random initial weights do not dominate
    the first averages (as TensorFlow's `ExponentialMovingAverage(num_updates=…)`).

    Args:
        decay: share of the old average that is kept at each step, in [0, 1).
        device: device of the average, e.g. `cpu` to save GPU memory; None is the model's.

    Raises:
        ConfigError: a decay outside [0, 1).
    """

    def __init__(self, *, decay: Fraction = 0.999, device: str | None = None) -> None:
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"callbacks.ema.decay={decay} must be within 0 … 1, e.g. 0.999")
        super().__init__(device=device, use_buffers=True, multi_avg_fn=partial(_update_exponentially, decay))


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


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, in the order in which they are averaged."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _is_left_out(model: nn.Module, name: str) -> bool:
    """Whether a tensor is not averaged."""
    parts = tuple(f"{part}." for part in model.unaveraged) if isinstance(model, HasUnaveragedParts) else ()
    measured = model.measured_buffers if isinstance(model, HasMeasuredBuffers) else ()
    spectral = ".parametrizations." in name and name.endswith(SPECTRAL)
    return spectral or name in measured or name.startswith(parts)


def _update_exponentially(
    decay: float, averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int
) -> None:
    count = int(updates)
    _move_averages(averages, values, 1.0 - min(decay, (1 + count) / (10 + count)))


def _update_means(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
    _move_averages(averages, values, 1.0 / (int(updates) + 1))


@torch.no_grad()
def _move_averages(averages: Sequence[Tensor], values: Sequence[Tensor], share: float) -> None:
    """Move all averages of one device and type by a share of the way to the values; counts and flags are copied."""
    if averages[0].is_floating_point():
        torch._foreach_lerp_(list(averages), list(values), share)
    else:
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)
