"""Scores of a model of several modalities when it is given only one of them."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.data.base import find_datamodule
from seewhy.metrics.classification.slice_labels import SliceLabelScores
from seewhy.metrics.segmentation.patient_scores import PatientScores

__all__ = ["ScoreModalities", "keep_modality"]

FLOORS = ("floor_otsu3", "floor_intensity", "floor_mirror")
"""Floors that are repeated for each modality."""


class ScoreModalities(Callback):
    """Tests the model on each modality alone, where the data have several.

    All other channels get the value of a missing channel. Logged are `test/<map>_<modality>/<measure>`, with the floors
    of that modality (`test/floor_mirror_<modality>/…`), and `test/classifier_<modality>/auroc`. The tissue of a patient
    is still that of all modalities. Without several modalities nothing is predicted and nothing logged.
    """

    def __init__(self) -> None:
        self._maps: dict[str, PatientScores] = {}
        self._labels: dict[str, SliceLabelScores] = {}
        self._sources: dict[str, tuple[str, ...]] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start without patients."""
        datamodule = find_datamodule(trainer)
        self._sources = {} if datamodule is None else datamodule.channel_sources
        plain = [name for name, sources in self._sources.items() if sources == (name,)]
        self._maps, self._labels = {}, {}
        for modality in plain if len(plain) > 1 else []:
            scores = PatientScores(distances=False)
            scores.channels, scores.channel = tuple(self._sources), list(self._sources).index(modality)
            self._maps[modality], self._labels[modality] = scores, SliceLabelScores()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Predict and score one patient once for each modality."""
        for modality, scores in self._maps.items():
            alone = keep_modality(batch, modality, self._sources)
            prediction = cast(Prediction, pl_module.predict_step(alone, batch_idx))
            scores.update(prediction, alone)
            self._labels[modality].update(prediction, alone)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the scores; every rank computes them from the patients of all."""
        logged = {}
        for modality, scores in self._maps.items():
            for name, value in scores.compute().items():
                method, _, measure = name.partition("/")
                if measure and (method in FLOORS or not method.startswith("floor_")):
                    logged[f"test/{method}_{modality}/{measure}"] = value
            auroc = self._labels[modality].compute().get("auroc")
            if auroc is not None:
                logged[f"test/classifier_{modality}/auroc"] = auroc
        if logged:
            pl_module.log_dict(logged, rank_zero_only=False)


def keep_modality(batch: Batch, modality: str, sources: dict[str, tuple[str, ...]]) -> Batch:
    """Replace all channels that need another modality by the value of a missing channel.

    Args:
        batch: with `image` [S, C, H, W] and `missing` [S, C].
        modality: the one that is kept.
        sources: channel → modalities that it is made of, in the order of the channels.

    Example:
        >>> batch = {"image": torch.ones(1, 3, 2, 2), "missing": torch.tensor([[-4.0, -4.0, 0.0]])}
        >>> kept = keep_modality(batch, "t1", {"flair": ("flair",), "t1": ("t1",), "t1-flair": ("t1", "flair")})
        >>> kept["image"][0, :, 0, 0].tolist()
        [-4.0, 1.0, 0.0]
    """
    image = cast(Tensor, batch["image"])
    kept = torch.tensor([own == (modality,) for own in sources.values()], device=image.device)
    missing = batch["missing"].to(image)[:, :, None, None]
    alone = dict(batch) | {"image": torch.where(kept[None, :, None, None], image, missing)}
    return cast(Batch, alone)
