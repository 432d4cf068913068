"""Callbacks around a `VolumeEngine`: return of the logits that Lightning predicts, and a progress bar."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from seewhy.volumes.engine.engine import Progress as Pace
from seewhy.volumes.engine.engine import VolumeEngine

__all__ = ["VolumeProgress", "VolumeWriter"]


class VolumeWriter(Callback):
    """Passes the predictions of `trainer.predict` to the `VolumeEngine` that is its dataloader.

    Every process computes the part of the plan that its engine was made for. Predictions must not be kept
    (`return_predictions=False`), and Lightning must not distribute the batches (`use_distributed_sampler=False`).
    When all parts have ended, the caller completes the output with `engine.finish`. After an error, all final rows
    are stored and recorded, so that the next run continues from them. With another dataloader it does nothing.
    """

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Blend one batch."""
        engine = _engine(trainer)
        if engine is not None:
            engine.accept(batch, outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until this part is stored."""
        engine = _engine(trainer)
        if engine is not None:
            engine.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the threads after they have stored their rows."""
        engine = _engine(trainer)
        if engine is not None:
            engine.abandon()


def _engine(trainer: Trainer) -> VolumeEngine | None:
    """The dataloader if it is an engine."""
    loader: Any = trainer.predict_dataloaders
    return loader if isinstance(loader, VolumeEngine) else None


class VolumeProgress(Callback):
    """Shows a progress bar of this process's patches, with voxels per second, bytes read and the time left.

    The module needs an attribute `engine` with `progress` when prediction starts. Only rank 0 draws; the other ranks
    have shares of the same size.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
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
        pl_module.engine.report_measured = self._show_measuring  # type: ignore[union-attr]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Update the bar."""
        self._draw(pl_module.engine.progress)  # type: ignore[union-attr, arg-type]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the final state and stop the bar."""
        self._draw(pl_module.engine.progress)  # type: ignore[union-attr, arg-type]
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the bar."""
        self._stop()

    def _show_measuring(self, share: float) -> None:
        """Show the progress of the pass over the volume that measures its statistics."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, pace=f"measuring the volume: {share:.0%}" if share < 1 else "")

    def _draw(self, pace: Pace) -> None:
        if self._bar is None or self._task is None:
            return
        done = pace.run + pace.skipped
        # Rows are stored in whole shards, so the speed is that of the computed patches.
        speed = pace.share * pace.voxels / pace.seconds if pace.seconds else 0.0
        read, retries = pace.counters.bytes_read, pace.counters.retries
        text = f"{_format_number(speed)}voxels/s, {_format_number(read)}B read in {pace.counters.reads:,}"
        text += f", {retries:,} tried again" if retries else ""
        self._bar.update(self._task, total=max(pace.patches, 1), completed=done if pace.patches else 1, pace=text)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _format_number(number: float) -> str:
    """A number with three digits and a prefix, e.g. 1.23 M."""
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:,.3g} T"
