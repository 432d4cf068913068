"""Stop hopeless members of a search early: report each validation to a trial, and end when it is pruned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["PruneTrial", "ReportsTrial"]


class ReportsTrial(Protocol):
    """What the callback asks of a trial; those of Optuna have it."""

    def report(self, value: float, step: int) -> None:
        """Report a value."""

    def should_prune(self) -> bool:
        """Return whether the trial is worse than others at this step."""


class PruneTrial(Callback):
    """Report the objective after each validation, and stop the training if the trial is pruned.

    The first process reports and decides; the others follow it.

    Args:
        monitor: name of the logged score.
        connect: returns the trial; called in the first process only, when the first value is there.

    Attributes:
        epoch: in which the trial was pruned; None if it was not.
        value: of the score in that epoch.
    """

    def __init__(self, monitor: str, connect: Callable[[], ReportsTrial]) -> None:
        self.monitor, self.connect = monitor, connect
        self.epoch: int | None = None
        self.value: float | None = None
        self._trial: ReportsTrial | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and ask whether to go on."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        pruned = False
        if trainer.is_global_zero:
            self._trial = self._trial or self.connect()
            self._trial.report(value, trainer.current_epoch)
            pruned = self._trial.should_prune()
        if trainer.strategy.broadcast(pruned):
            self.epoch, self.value = trainer.current_epoch, value
            trainer.should_stop = True
