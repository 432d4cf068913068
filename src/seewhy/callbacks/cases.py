"""Pictures of every tested or predicted case, for the case browser of the report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.data.base import find_datamodule
from seewhy.figures.report.cases import write_case
from seewhy.io.atomic import list_files
from seewhy.option_types import PositiveInt
from seewhy.reporting.cases.batches import CasePictures, make_cases
from seewhy.sharing.parts import check_written

__all__ = ["WriteCases"]


class WriteCases(Callback):
    """Writes `<id>.json` for every tested or predicted case: small pictures of its slices, classes and doubts.

    The report shows all of them in one page, see `seewhy.figures.report.page`. Files of an earlier test are removed.
    Masks of a data set are read here for pictures only.

    Args:
        folder: folder of the files.
        max_slices: most slices of a scan along one axis, spread evenly.
        side: longest side of a picture in pixels.
    """

    def __init__(self, *, folder: str, max_slices: PositiveInt = 24, side: PositiveInt = 160) -> None:
        self.folder = Path(folder)
        self.pictures = CasePictures(max_slices=max_slices, side=side)
        self._written: list[str] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the cases of an earlier test."""
        self._begin(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the cases of an earlier prediction."""
        self._begin(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the cases of a batch."""
        self._write(trainer, pl_module, outputs, batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the cases of a batch."""
        self._write(trainer, pl_module, outputs, batch)

    def take_part(self) -> Any:
        """Names of the files since the last call; see `seewhy.callbacks.sharing.SharesWork`."""
        names, self._written = self._written, []
        return names

    def join_parts(self, parts: Sequence[Any]) -> None:
        """Remove the files that no process has written; see `seewhy.callbacks.sharing.SharesWork`."""
        names = {name for part in parts for name in part}
        check_written(self.folder / name for name in names)
        for path in list_files(self.folder, "*"):
            if path.name not in names:
                path.unlink()

    def _begin(self, trainer: Trainer) -> None:
        self._written, datamodule = [], find_datamodule(trainer)
        is_shared = datamodule is not None and datamodule.shared is not None  # others may have written cases already
        if trainer.is_global_zero and not is_shared:
            shutil.rmtree(self.folder, ignore_errors=True)
        trainer.strategy.barrier()

    def _write(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        if isinstance(outputs, dict):
            for case in make_cases(outputs, batch, module, find_datamodule(trainer), self.pictures):  # type: ignore[arg-type]
                self._written.append(write_case(self.folder, case).name)
