"""How far the prediction of a volume has come, in the terminal."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from seewhy.volumes.engine.engine import Progress as Pace

__all__ = ["VolumeProgress"]


class VolumeProgress(Callback):
    """A bar of this process's patches, with voxels per second, what was read and the time left.

    The module has an attribute `engine` with `progress` when prediction starts. Only rank 0 draws; the others work
    at the same pace on shares of the same size.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        if not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,} patches"),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            refresh_per_second=2,
        )
        self._task = self._bar.add_task("predicting", total=1, pace="")
        self._bar.start()
        pl_module.engine.report_measured = self._measured  # type: ignore[union-attr]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move it."""
        self._draw(pl_module.engine.progress)  # type: ignore[union-attr, arg-type]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it as it ended."""
        self._draw(pl_module.engine.progress)  # type: ignore[union-attr, arg-type]
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _measured(self, share: float) -> None:
        """Say how far the pass over the volume is that measures its statistics."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, pace=f"measuring the volume: {share:.0%}" if share < 1 else "")

    def _draw(self, pace: Pace) -> None:
        if self._bar is None or self._task is None:
            return
        done = pace.run + pace.skipped
        # Rows are stored in whole shards, so voxels per second are those of the patches gone through.
        speed = pace.share * pace.voxels / pace.seconds if pace.seconds else 0.0
        read, again = pace.counters.bytes_read, pace.counters.retries
        text = f"{_short(speed)}voxels/s, {_short(read)}B read in {pace.counters.reads:,}"
        text += f", {again:,} tried again" if again else ""
        self._bar.update(self._task, total=max(pace.patches, 1), completed=done if pace.patches else 1, pace=text)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _short(number: float) -> str:
    """Three digits and a prefix: 1.23 M."""
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:,.3g} T"
