"""A patch predictor as Lightning runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seewhy.volumes.predictor import PatchPredictor

__all__ = ["VolumePrediction"]


class VolumePrediction(LightningModule):
    """Gives the logits of an engine's batches; `seewhy.callbacks.volume_writer.VolumeWriter` takes them.

    Args:
        predictor: of patches; follows Lightning to its device.
    """

    def __init__(self, predictor: PatchPredictor) -> None:
        super().__init__()
        self.predictor = predictor
        self.networks = nn.ModuleList(predictor.networks)

    def on_predict_start(self) -> None:
        """Follow to the device that Lightning chose."""
        self.predictor.to(self.device)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int = 0) -> Tensor:
        """Logits [B, K, *patch] float32 of a batch of `seewhy.volumes.engine.VolumeEngine`."""
        return self.predictor(batch["image"])
