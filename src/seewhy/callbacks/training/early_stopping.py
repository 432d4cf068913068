"""Stop a training whose validation score no longer improves."""

from __future__ import annotations

from lightning.pytorch.callbacks import EarlyStopping

from seewhy.metrics.direction import find_mode
from seewhy.option_types import NonNegativeFloat, PositiveInt

__all__ = ["StopWithoutImprovement"]


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
