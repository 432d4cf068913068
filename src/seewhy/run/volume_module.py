"""The LightningModule that predicts patches of a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from seewhy.volumes.engine import VolumeEngine
from seewhy.volumes.predictor import PatchPredictor

__all__ = ["VolumePrediction"]


class VolumePrediction(LightningModule):
    """Networks in a `PatchPredictor`, over the batches of a `VolumeEngine`.

    The networks are the predictor's, which has moved them to their device and asks for no gradients; so they are no
    submodules here, and nothing is wrapped or broadcast.

    Args:
        predictor: from patches to logits.
        engine: gives the batches; `VolumeWriter` gives their logits back to it.
        create: makes the output or finds it there; called with True by rank 0, then with False by the others.
    """

    def __init__(self, predictor: PatchPredictor, engine: VolumeEngine, *, create: Callable[[bool], None]) -> None:
        super().__init__()
        self.engine = engine
        self._predictor, self._create = predictor, create

    def setup(self, stage: str) -> None:
        """Make the output, once all processes are there."""
        if self.trainer.is_global_zero:
            self._create(True)
        self.trainer.strategy.barrier("the output exists")
        if not self.trainer.is_global_zero:
            self._create(False)

    def predict_dataloader(self) -> Any:
        """The engine itself."""
        return self.engine

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits [B, K, *patch] of a batch of patches."""
        return self._predictor(batch["image"])
