"""Signs, told without masks, that a patient's map follows something else than a lesion."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.io.atomic import write_csv
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.plausibility import measure_plausibility

__all__ = ["ImplausibleMapsWriter"]

LOGGER = logging.getLogger(__name__)


class ImplausibleMapsWriter(Callback):
    """Looks at one map of every tested or predicted patient and writes `doubts.csv`: what speaks against it.

    One row per patient and class: `peak`, `cover`, `overlap` (see `seewhy.metrics.segmentation.plausibility`) and
    `doubts`, in
    words, empty where there are none. The number of doubted patients is logged and stands in the report.

    Args:
        folder: the run folder.
        map: name of the map that chooses the lesion.
    """

    def __init__(self, *, folder: str, map: str = "cam") -> None:  # noqa: A002
        self.folder = Path(folder)
        self.map = map
        self.rows: list[Row] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a fresh table."""
        self.rows = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a fresh table."""
        self.rows = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at one patient."""
        self._look(outputs, batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at one patient."""
        self._look(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all ranks."""
        self._write(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all ranks."""
        self._write(trainer)

    def _look(self, prediction: Any, batch: Any) -> None:
        maps = prediction.get("maps", {}).get(self.map)
        if maps is None or "body" not in batch or not bool(batch["body"].any()):
            return
        for k in range(maps.shape[1]):
            found = measure_plausibility(maps[:, k], batch["body"], prediction["probability"][:, k])
            overlap = None if math.isnan(found.overlap) else found.overlap
            row: Row = {"patient": prediction["patient"][0], "class": k + 1, "map": self.map, "peak": found.peak}
            row |= {"cover": found.cover, "overlap": overlap, "doubts": "; ".join(found.doubts())}
            self.rows.append(row)

    def _write(self, trainer: Trainer) -> None:
        rows = gather_rows(self.rows, key=("patient", "class"))
        if not rows or not trainer.is_global_zero:
            return
        path = write_csv(self.folder / "doubts.csv", rows, columns=list(rows[0]))
        doubted = sum(bool(row["doubts"]) for row in rows)
        if doubted:
            LOGGER.warning("%d of %d maps look implausible; why: %s", doubted, len(rows), path)
