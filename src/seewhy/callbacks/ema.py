"""An average of the weights, which is what is validated, saved and tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["ExponentialMovingAverage"]


SPECTRAL = ("._u", "._v")
"""Ends of the names of spectral norms' vectors."""


class ExponentialMovingAverage(WeightAveraging):
    """Exponential moving average of weights and batch statistics, on Lightning's `WeightAveraging`.

    Validation, `best.ckpt` and `last.ckpt` have the averaged weights as their `state_dict`; the live ones are kept
    beside them, so that a training that is continued goes on where it was. Not averaged, nor kept twice, are the
    vectors of spectral norms, which only belong to the weights that they were iterated with, and what a model
    declares: `measured_buffers` (a calibrated temperature) and `unaveraged`, its parts that only training needs
    (discriminators).

    One update follows each step of the optimisers, however many step together.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that an average of few weights is not one of
    the random ones that the training began with (as TensorFlow's `ExponentialMovingAverage(num_updates=…)`).

    Args:
        decay: share of the old average that is kept at each step, in [0, 1).
        device: where the average is kept, e.g. `cpu` to spare the GPU; None is the model's.
    """

    def __init__(self, *, decay: float = 0.999, device: str | None = None) -> None:
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"callbacks.ema.decay={decay} must be within 0 … 1, e.g. 0.999")
        super().__init__(device=device, use_buffers=True, multi_avg_fn=_Average(decay))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to where the model is by now, and let what is not averaged be the model's own."""
        average: Any = self._average_model
        average.to(self._device or pl_module.device)
        live = dict(_tensors(pl_module))
        for name, tensor in _tensors(average.module):
            if _left_out(pl_module, name):
                tensor.data = live[name].data

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Bring back the average to train on; a test is of the averaged weights, as they stand in `state_dict`."""
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the average after training, so that no later validation swaps old weights in."""
        super().teardown(trainer, pl_module, stage)
        if stage == "fit":
            self._average_model = None


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, in the order in which they are averaged."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _left_out(model: nn.Module, name: str) -> bool:
    """Whether a tensor is not averaged."""
    parts = tuple(f"{part}." for part in getattr(model, "unaveraged", ()))
    spectral = ".parametrizations." in name and name.endswith(SPECTRAL)
    return spectral or name in getattr(model, "measured_buffers", ()) or name.startswith(parts)


class _Average:
    """Updates all averages of one device and type at once; counts and flags are copied."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        decay = min(self.decay, (1 + count) / (10 + count))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(values), 1.0 - decay)
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)
