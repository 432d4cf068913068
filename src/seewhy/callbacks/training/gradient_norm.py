"""Log gradients and parameters: the norm of the gradients, and histograms of both."""

from __future__ import annotations

from typing import get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from seewhy.options import check_choice
from seewhy.tracking.media import find_step
from seewhy.tracking.run import WatchedValues, WatchesWeights

__all__ = ["LogGradientNorm", "LogHistograms"]


class LogGradientNorm(Callback):
    """Logs the norm of all gradients of an optimiser before they are clipped, every `trainer.log_every_n_steps` steps.

    `train/gradient_norm`; of several optimisers `train/gradient_norm/<parts>`, the parts of the model that it trains.
    """

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm."""
        if (find_step(trainer) + 1) % max(1, int(trainer.log_every_n_steps)):  # type: ignore[attr-defined]
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        name = "train/gradient_norm"
        if len(trainer.optimizers) > 1:
            own = {id(parameter) for parameter in parameters}
            parts = [part for part, child in pl_module.named_children() if own & set(map(id, child.parameters()))]
            name = f"{name}/{'_'.join(parts)}"
        pl_module.log(name, norm, batch_size=1)


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
