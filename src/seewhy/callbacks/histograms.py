"""Histograms of gradients and parameters in the trackers that show them."""

from __future__ import annotations

from typing import get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from seewhy.options import check_choice
from seewhy.tracking.media import find_step
from seewhy.tracking.run import WatchedValues, WatchesWeights

__all__ = ["LogHistograms"]


class LogHistograms(Callback):
    """Logs histograms of gradients and parameters to W&B and TensorBoard every `trainer.log_every_n_steps` steps.

    Args:
        what: `gradients`, `parameters` or `all`.

    Raises:
        ConfigError: another word.
    """

    def __init__(self, what: WatchedValues) -> None:
        check_choice(what, get_args(WatchedValues), "logger.watch")
        self.what = what
        self.trackers: list[WatchesWeights] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch."""
        self.trackers = [logger for logger in trainer.loggers if isinstance(logger, WatchesWeights)]
        if not self.trackers:
            rank_zero_warn(f"logger.watch={self.what}: no logger of this run shows histograms (wandb, tensorboard)")
        if trainer.is_global_zero:
            for tracker in self.trackers:
                tracker.watch_weights(pl_module, self.what, self._find_interval(trainer))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log histograms every few steps."""
        step = find_step(trainer)
        if trainer.is_global_zero and step % self._find_interval(trainer) == 0:
            for tracker in self.trackers:
                tracker.log_histograms(pl_module, self.what, step)

    def _find_interval(self, trainer: Trainer) -> int:
        return max(1, int(trainer.log_every_n_steps))  # type: ignore[attr-defined]
