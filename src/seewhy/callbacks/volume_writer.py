"""Hands logits back to the engine whose batches Lightning predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.errors import ConfigError
from seewhy.volumes.engine import VolumeEngine
from seewhy.volumes.progress import Progress

__all__ = ["VolumeWriter"]


class VolumeWriter(Callback):
    """Blends and stores what `trainer.predict(module, dataloaders=engine, return_predictions=False)` gives.

    With several processes each takes its own part of the plan: process r of w computes part
    `part * w + r` of the engine's plan, which must have been made for `num_parts * w` parts; `part` is the one the
    engine was given, so that job arrays and Lightning's processes go together. When all parts of the output are
    stored, one of them lets the sink finish.

    Args:
        engine: the dataloader.
        progress: called after every batch.

    Attributes:
        complete: whether the whole output is there, once the run has ended.
    """

    def __init__(self, engine: VolumeEngine, *, progress: Callable[[Progress], None] | None = None) -> None:
        self.engine, self.progress = engine, progress
        self.complete = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose this process's part, before Lightning asks for the first batch.

        Raises:
            ConfigError: when the plan was made for another number of processes.
        """
        world, parts = trainer.world_size, self.engine.plan.parts
        if parts % world:
            raise ConfigError(f"the plan has {parts} part(s), Lightning runs {world} processes; plan for them")
        self.engine.part = self.engine.part * world + trainer.global_rank
        self.engine.device = trainer.strategy.root_device

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
        self.engine.accept(batch, outputs)
        if self.progress is not None:
            self.progress(self.engine.progress)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until this part is stored, then let whoever finds all parts stored finish."""
        self.engine.close()
        self.complete = self.engine.finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Store what was final, so that the next run goes on from there."""
        self.engine.abandon()
