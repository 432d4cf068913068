"""Floors of slice classifiers in the results: AUROC from the position and area of slices alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.data.base import find_datamodule
from seewhy.metrics.classification.slice_labels import PositionFloors, describe_slices
from seewhy.metrics.gather import Row, gather_rows
from seewhy.option_types import PositiveInt
from seewhy.progress import track_slowly

__all__ = ["SliceFloors"]


class SliceFloors(Callback):
    """Logs `test/floor_position/auroc`, `test/floor_area/auroc` and `test/floor_position_area/auroc` after a test.

    The regressions are fitted on slices of the training patients, which are read once; see
    `seewhy.metrics.classification.slice_labels.PositionFloors`. Without a DataModule of seewhy, training patients or
    labels, nothing is logged.

    Args:
        max_patients: training patients that are read, spread evenly over all; a regression on three features needs no
            more.
    """

    def __init__(self, *, max_patients: PositiveInt = 100) -> None:
        self.max_patients = max_patients
        self._rows: list[Row] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the slices of the last test."""
        self._rows = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Describe the slices of one patient."""
        if isinstance(batch, dict):
            self._rows += describe_slices(batch)  # type: ignore[arg-type]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the floors and log their scores; every rank computes them from the slices of all."""
        rows = gather_rows(self._rows, key=("id",))
        self._rows = []
        if rows:
            scores = PositionFloors(self._read_training_slices(trainer)).score(rows)
            pl_module.log_dict({f"test/{name}": value for name, value in scores.items()}, rank_zero_only=False)

    def _read_training_slices(self, trainer: Trainer) -> list[Row]:
        datamodule = find_datamodule(trainer)
        items = list(datamodule.items_of("train")) if datamodule is not None else []
        if datamodule is None or not items:
            return []
        chosen = np.unique(np.linspace(0, len(items) - 1, min(len(items), self.max_patients)).round().astype(int))
        patients = datamodule.evaluation_data([items[i] for i in chosen])
        rows: list[Row] = []
        for i in track_slowly(range(len(chosen)), "floors of position and area"):
            rows += describe_slices(patients[i])
        return rows
