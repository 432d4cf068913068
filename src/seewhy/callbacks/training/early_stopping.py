"""Stop a training early: without improvement of its score, or as a hopeless member of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from seewhy.metrics.direction import find_mode
from seewhy.option_types import NonNegativeFloat, PositiveInt

__all__ = ["PruneTrial", "ReportsTrial", "StopWithoutImprovement"]


class StopWithoutImprovement(EarlyStopping):
    """Lightning's `EarlyStopping`, whose direction follows from the name of the score.

    Args:
        monitor: name of the logged score.
        patience: validations without improvement after which the training ends; count them with
            `trainer.check_val_every_n_epoch`.
        min_delta: smallest improvement.
        mode: `min` or `max` for scores whose name does not tell; None otherwise.

    Example:
        >>> StopWithoutImprovement(monitor="val/auroc").mode
        'max'
    """

    def __init__(
        self, *, monitor: str, patience: PositiveInt = 5, min_delta: NonNegativeFloat = 0.0, mode: str | None = None
    ) -> None:
        found = find_mode(monitor, mode, option="callbacks.early_stopping")
        super().__init__(monitor, min_delta=min_delta, patience=patience, mode=found)


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
