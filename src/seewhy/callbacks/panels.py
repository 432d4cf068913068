"""Pictures of validation cases for the loggers that show pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seewhy.batch import Batch, Prediction
from seewhy.reporting.shown_sample import shown
from seewhy.tracking import log_image, takes_images

__all__ = ["LogPanels"]


class LogPanels(Callback):
    """After a validation, one panel of cases (image and maps) goes to TensorBoard, W&B or MLflow.

    Args:
        every_n_epochs: epochs between two panels.
        samples: cases in a panel: the slice with the highest probability of each of the first patients.
    """

    def __init__(self, *, every_n_epochs: int = 1, samples: int = 4) -> None:
        self.every_n_epochs = every_n_epochs
        self.samples = samples
        self.strips: list[np.ndarray[Any, Any]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a fresh panel."""
        self.strips = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one case of this patient."""
        due = trainer.current_epoch % self.every_n_epochs == 0
        if not due or len(self.strips) >= self.samples or not isinstance(outputs, dict) or "maps" not in outputs:
            return
        if trainer.is_global_zero and takes_images(trainer.loggers):
            self.strips.append(_strip(trainer, outputs, batch))  # type: ignore[arg-type]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the panel."""
        if not self.strips:
            return
        width = max(strip.shape[1] for strip in self.strips)
        padded = [np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in self.strips]
        log_image(trainer.loggers, "val/panel", np.concatenate(padded), trainer.global_step)


def _strip(trainer: Trainer, prediction: Prediction, batch: Batch) -> np.ndarray[Any, Any]:
    """The patient's most confident slice beside its maps, [H, W, 3] uint8."""
    from seewhy.figures.overlay import strip

    position = int(prediction["probability"].max(1).values.argmax())
    sample = shown(trainer, prediction, batch, position)
    return strip(sample.image, sample.maps, mask=sample.mask)
