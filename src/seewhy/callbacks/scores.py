"""Scores of predictions whose truth is known, with the intervals and floors of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.metrics.gather import Row
from seewhy.models.protocols import ScoresPatients, ScoresPredictions, SharesScores
from seewhy.reporting.sample import select_rows

__all__ = ["ScorePredictions"]

STAGE = "test"
"""Stage whose scores have intervals and floors."""


class ScorePredictions(Callback):
    """Scores the predictions of cases with labels or masks; of cases without, and of other models, there are no scores.

    Attributes:
        scores: name → number, after the prediction, the same on every rank.
        rows: one row per patient or case, and map, as in `patients.csv`.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self.rows: list[Row] = []
        self._model: SharesScores | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start without cases."""
        self.scores, self.rows = {}, []
        if isinstance(pl_module, ScoresPredictions):
            pl_module.reset_scores(STAGE)
        self._model = pl_module if isinstance(pl_module, SharesScores) else None

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of the cases with a label."""
        if not isinstance(pl_module, ScoresPredictions) or not isinstance(outputs, dict):
            return
        prediction, known = cast(Prediction, outputs), cast(Batch, batch)
        label = batch.get("label")
        if isinstance(label, Tensor) and label.ndim == 1 and bool((label < 0).any()):
            rows = [row for row, value in enumerate(label.tolist()) if value >= 0]
            if not rows:
                return
            prediction, known = cast(Prediction, select_rows(outputs, rows)), select_rows(batch, rows)  # type: ignore[arg-type]
        pl_module.update_scores(prediction, known, STAGE)

    def take_part(self) -> Any:
        """Rows since the last call; see `seewhy.callbacks.sharing.SharesWork`."""
        return None if self._model is None else self._model.take_rows(STAGE)

    def join_parts(self, parts: Sequence[Any]) -> None:
        """Take over the rows of all processes; see `seewhy.callbacks.sharing.SharesWork`."""
        for rows in parts if self._model is not None else ():
            self._model.add_rows(rows, STAGE)  # type: ignore[union-attr]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the scores; every process takes part."""
        if not isinstance(pl_module, ScoresPredictions):
            return
        self.scores = pl_module.compute_scores(STAGE)
        if isinstance(pl_module, ScoresPatients) and STAGE in pl_module.patient_scores:
            self.rows = pl_module.patient_scores[STAGE].rows()
        pl_module.reset_scores(STAGE)
