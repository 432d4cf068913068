"""Hands logits back to the engine whose batches Lightning predicts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.volumes.engine.engine import VolumeEngine

__all__ = ["VolumeWriter"]


class VolumeWriter(Callback):
    """Blends and stores what `trainer.predict` gives for the batches of a `VolumeEngine`, its dataloader.

    Every process computes the part of the plan that its engine was made for. Predictions are not kept
    (`return_predictions=False`), and batches must not be dealt out again (`use_distributed_sampler=False`). Once all
    parts have ended, whoever started them lets `engine.finish` complete the output. After an error, what was final is
    stored and noted, so that the next run goes on from there. With another dataloader it does nothing.
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
        """Stop the threads after they have stored what they were given."""
        engine = _engine(trainer)
        if engine is not None:
            engine.abandon()


def _engine(trainer: Trainer) -> VolumeEngine | None:
    """The dataloader, where it is an engine."""
    loader: Any = trainer.predict_dataloaders
    return loader if isinstance(loader, VolumeEngine) else None
