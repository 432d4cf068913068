"""What is kept of each evaluated subject: similarities, features, small pictures and lesions, never whole volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seewhy.batch import MODALITIES, Batch, Prediction
from seewhy.data.domains.baselines import Baseline, apply_baseline
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.translation.lesion import Lesion, LesionAppearance, measure_lesion
from seewhy.metrics.translation.similarity import DIRECTIONS, TranslationScores, centre_slices, subject_name
from seewhy.models.translation.unpaired import other_domain
from seewhy.run.translation.evaluation.features import FeatureExtractor, chosen_slices, tissue_squares
from seewhy.run.translation.evaluation.settings import EvaluationSettings

__all__ = ["MODEL", "RAW", "SubjectRecorder"]

MODEL, RAW = "model", "identity"
"""Names of the run's own translation and of none at all."""
LEAST_CONTRAST = 0.1
"""Contrast below which a relative change says nothing: a lesion that cannot be seen cannot fade."""


class SubjectRecorder(Callback):
    """Measures every predicted subject, translated by the model and by each baseline.

    Args:
        features: what distances are measured in.
        settings: of `evaluate`.
    """

    def __init__(self, *, features: FeatureExtractor, settings: EvaluationSettings) -> None:
        self.features, self.settings = features, settings
        self.baselines: Mapping[str, Baseline] = {}
        self.scores = {MODEL: TranslationScores()}
        self._records: list[Row] = []

    def use(self, baselines: Mapping[str, Baseline]) -> None:
        """Name the baselines, fitted, before any subject is measured; `identity` is one of them."""
        self.baselines = baselines
        self.scores = {name: TranslationScores() for name in (*baselines, MODEL)}

    def records(self) -> list[Row]:
        """One per subject, of all ranks: `domain`, `subject`, `patient`, `slices`, `features`, `squares`, `lesions`.

        `features` and `squares` are by method, [N, M, D] and [N, M, side, side] of the chosen slices.
        """
        return gather_rows(self._records, key=("domain", "subject"))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure one subject."""
        self.measure(outputs, batch)

    @torch.no_grad()
    def measure(self, prediction: Prediction, batch: Batch) -> None:
        """Measure one subject; a prediction without `translated` is of a model that knows the other direction only."""
        own: Tensor = centre_slices(batch["image"])  # type: ignore[arg-type]
        domain, body = batch["domain"][0], batch["body"]
        images: dict[str, Tensor] = {}
        for name, found in self._translations(prediction, own, body, domain).items():
            self.scores[name].update(found, batch)
            images[name] = found["translated"]
        chosen = chosen_slices(body, self.settings.slices)
        kept = {name: image[chosen] for name, image in images.items()}
        self._records.append(
            {
                "domain": domain,
                "subject": subject_name(batch["id"][0], domain),
                "patient": batch["patient"][0],
                "slices": len(chosen),
                "features": {name: self.features(image, body[chosen]) for name, image in kept.items()},
                "squares": {
                    name: tissue_squares(image, body[chosen], self.settings.probe.size).cpu().numpy()
                    for name, image in kept.items()
                },
                "lesions": self._lesions(images, batch),
            }
        )

    def _translations(self, prediction: Prediction, own: Tensor, body: Tensor, domain: str) -> dict[str, Prediction]:
        found: dict[str, Prediction] = {}
        array, inside = own.cpu().numpy(), body.cpu().numpy()
        for name, baseline in self.baselines.items():
            if name == RAW:  # its way back would be called perfect
                found[name] = {"translated": own}
                continue
            there = apply_baseline(baseline, array, inside, domain=domain)
            back = apply_baseline(baseline, there, inside, domain=other_domain(domain))
            found[name] = {
                "translated": torch.from_numpy(there).to(own.device),
                "reconstructed": torch.from_numpy(back).to(own.device),
            }
        if "translated" in prediction:
            found[MODEL] = prediction
        return found

    def _lesions(self, images: Mapping[str, Tensor], batch: Batch) -> list[Row]:
        """A row per method and modality; none without an annotated lesion."""
        if "mask" not in batch:
            return []
        mask: Any = batch["mask"]
        lesion = Lesion.from_mask(mask.cpu().numpy(), batch["body"].cpu().numpy(), margin=self.settings.lesion.margin)
        if lesion is None:
            return []
        domain = batch["domain"][0]
        head = {
            "subject": subject_name(batch["id"][0], domain), "patient": batch["patient"][0], "domain": domain,
            "direction": DIRECTIONS[domain], "voxels": int(lesion.inside.sum()),
        }  # fmt: skip
        before = _looks(images[RAW], lesion)
        truth = _looks(batch["counterpart"], lesion) if "counterpart" in batch else [None] * len(MODALITIES)
        rows = []
        for name, image in images.items():
            for modality, source, after, other in zip(MODALITIES, before, _looks(image, lesion), truth, strict=True):
                rows.append({**head, "method": name, "modality": modality, **_compared(source, after, other)})
        return rows


def _looks(image: Tensor, lesion: Lesion) -> list[LesionAppearance]:
    """One per modality."""
    return [measure_lesion(plane, lesion) for plane in np.moveaxis(image.float().cpu().numpy(), 1, 0)]


def _compared(source: LesionAppearance, after: LesionAppearance, other: LesionAppearance | None) -> Row:
    """A lesion before and after, and as the other scanner saw it; None where there is no such number."""
    change = (after.contrast - source.contrast) / abs(source.contrast)
    return {
        "contrast_source": source.contrast,
        "contrast": after.contrast,
        "contrast_counterpart": None if other is None else other.contrast,
        "relative_change": change if abs(source.contrast) >= LEAST_CONTRAST else None,
        "volume_source": source.volume,
        "volume": after.volume,
        "volume_ratio": after.volume / source.volume if source.volume else None,
        "volume_counterpart": None if other is None else other.volume,
        "dice_source": source.dice,
        "dice": after.dice,
        "dice_counterpart": None if other is None else other.dice,
    }
