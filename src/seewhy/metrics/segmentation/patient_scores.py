"""Scores of maps against annotated masks per patient, with floors that use no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from seewhy.batch import Batch, Prediction
from seewhy.errors import DataError
from seewhy.metrics.bootstrap import named_interval
from seewhy.metrics.gather import Row, RowCollection, gather_rows
from seewhy.metrics.segmentation.floors import Guess, slice_floors
from seewhy.metrics.segmentation.overlap import average_precision, dice, hausdorff95_slices, iou, lesion_wise_dice

__all__ = ["PatientScores"]

MEASURES = {
    "dice": (0.0, 1.0), "iou": (0.0, 1.0), "auprc": (0.0, 1.0),
    "dice_positive": (0.0, 1.0), "iou_positive": (0.0, 1.0), "auprc_positive": (0.0, 1.0),
    "hd95_slices_mm": (0.0, math.inf), "hd95_slices_px": (0.0, math.inf),
    "lesion_dice": (0.0, 1.0), "fp_volume_ml": (0.0, math.inf),
    "fp_area": (0.0, math.inf), "fp_slices": (0.0, 1.0), "healthy_hit": (0.0, 1.0),
}  # fmt: skip
"""Measure → its range."""


class PatientScores(RowCollection):
    """Dice, IoU, HD95, pixel AUPRC and false positives of every map of every patient; keeps no pixels.

    Measures per patient, averaged over the foreground classes:

    - `dice`, `iou`: over all slices together, so that false positives on healthy slices count;
      `dice_positive`, `iou_positive`: only over the slices that show the class, as in many papers.
    - `auprc`, `auprc_positive`: average precision over the pixels of the body (and of a lesion outside it),
      without any threshold. The chance level is the value of `floor_body`.
    - `hd95_slices_mm`, or `hd95_slices_px` without a spacing: the mean over positive slices of the 2D HD95, see
      `seewhy.metrics.segmentation.overlap.hausdorff95_slices`.
    - `lesion_dice`: lesion-wise Dice in 3D, which healthy patients have, too, see
      `seewhy.metrics.segmentation.overlap.lesion_wise_dice`.
    - `fp_volume_ml`: volume predicted outside the annotation, in mL; not without a spacing in all three directions.
    - `fp_area`: predicted pixels per slice without the class; `fp_slices`: share of such slices with any.
    - `healthy_hit`: only for patients without the class: 1 if any pixel is predicted, else 0.

    A measure that a patient does not define (Dice without a lesion, false positives without a healthy slice) is None
    in its row and left out of the means: Dice, IoU, AUPRC and HD95 are means over patients with a lesion,
    `lesion_dice` and `fp_volume_ml` over all patients, `healthy_hit` over the healthy ones.
    With several classes a pixel belongs to the class with the highest value, if that is above `threshold`.

    Args:
        threshold: value of a map above which a pixel is lesion.
        distances: compute HD95 and the lesion-wise Dice, the slowest measures.
        with_floors: also score the guesses of `seewhy.metrics.segmentation.floors`.
        resamples: number of bootstrap resamples over patients.
        seed: seed of the bootstrap.

    Attributes:
        channels: names of the image's channels where there are several modalities, for the floors.
        channel: position of the channel from which the floors of intensity are made, with `channels`.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        distances: bool = True,
        with_floors: bool = True,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.threshold = threshold
        self.distances = distances
        self.with_floors = with_floors
        self.resamples = resamples
        self.seed = seed
        self.channels: tuple[str, ...] = ()
        self.channel = 0
        self._rows: list[Row] = []

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Score one patient; does nothing if the batch has no mask.

        Args:
            prediction: with `maps`, name → [S, K, H, W] in [0, 1].
            batch: all slices of one patient: `patient`, `mask` [S, H, W], `image`; `body` [S, H, W] bool (default:
                all pixels) and `spacing` [S, 2 or 3] mm where known.

        Raises:
            DataError: the slices belong to several patients, or a map and the mask differ in size.
        """
        if "mask" not in batch:
            return
        patient = _only_patient(batch)
        mask = cast(Tensor, batch["mask"]).detach()  # slices have no named inputs
        body = batch["body"].to(mask.device).bool() if "body" in batch else torch.ones_like(mask, dtype=torch.bool)
        for name, values in prediction.get("maps", {}).items():
            if values.shape[0] != mask.shape[0] or values.shape[2:] != mask.shape[1:]:
                raise DataError(
                    f"map '{name}' is {tuple(values.shape)} and the mask {tuple(mask.shape)}; "
                    "expected [S, K, H, W] and [S, H, W] of the same size",
                    where=f"patient {patient}",
                )
            guesses = self._apply_threshold(values.detach().to(mask.device))
            self._add(patient, name, guesses, mask, body, batch)
        if self.with_floors:
            count = max([v.shape[1] for v in prediction.get("maps", {}).values()], default=1)
            image = _intensities(batch["image"]).to(mask.device)
            floors = slice_floors(image, body, channels=self.channels, channel=self.channel)
            for name, guess in floors.items():
                self._add(patient, name, [guess] * count, mask, body, batch)

    def reset(self) -> None:
        """Forget all patients."""
        self._rows = []

    def rows(self) -> list[Row]:
        """One row per patient and map of all ranks, all with the same columns.

        Returns:
            `patient`, `map`, `slices`, `positive_slices`, `lesion_share` (of the pixels of the body), and every
            measure as a float, or None if the patient or the map does not define it.
        """
        return gather_rows(self._rows, key=("patient", "map"))

    def compute(self) -> dict[str, float]:
        """Means over patients with their 95 % bootstrap intervals; the same on every rank.

        Returns:
            `<map>/<measure>`, and `<map>/<measure>_low` and `_high` with at least three patients that define
            it; `lesion_share`, `patients`, `patients_with_lesion`. Empty without patients.
        """
        rows = self.rows()
        if not rows:
            return {}
        scores: dict[str, float] = {}
        for name in dict.fromkeys(row["map"] for row in rows):
            map_rows = [row for row in rows if row["map"] == name]
            for measure, limits in MEASURES.items():
                values = [row[measure] for row in map_rows if row[measure] is not None]
                key, seed = f"{name}/{measure}", self.seed
                scores |= named_interval(key, values, limits=limits, resamples=self.resamples, seed=seed)
        patients = {row["patient"]: row for row in rows}
        return {
            **scores,
            "lesion_share": float(np.mean([row["lesion_share"] for row in patients.values()])),
            "patients": float(len(patients)),
            "patients_with_lesion": float(sum(row["positive_slices"] > 0 for row in patients.values())),
        }

    def _apply_threshold(self, values: Tensor) -> list[Guess]:
        """Mask and score of every class of a map [S, K, H, W]."""
        highest = values.argmax(dim=1)
        return [
            Guess((values[:, k] > self.threshold) & (highest == k), values[:, k].float())
            for k in range(values.shape[1])
        ]

    def _add(self, patient: str, name: str, guesses: list[Guess], mask: Tensor, body: Tensor, batch: Batch) -> None:
        spacing, lesion = _common_spacing(batch), mask > 0
        # With a single class, all annotated classes together are the lesion.
        parts = [lesion] if len(guesses) == 1 else [mask == k + 1 for k in range(len(guesses))]
        per_class = [
            measure_class(guess, part, body, spacing=spacing, distances=self.distances)
            for guess, part in zip(guesses, parts, strict=True)
        ]
        row: Row = {
            "patient": patient,
            "map": name,
            "slices": int(mask.shape[0]),
            "positive_slices": int(lesion.flatten(1).any(dim=1).sum()),
            "lesion_share": int(lesion.sum()) / max(int((body | lesion).sum()), 1),
        }
        self._rows.append({**row, **{measure: _mean_known(per_class, measure) for measure in MEASURES}})


def measure_class(
    guess: Guess, lesion: Tensor, body: Tensor, *, spacing: tuple[float, float, float] | None, distances: bool
) -> dict[str, float]:
    """All measures of one class of one patient; NaN for an undefined measure.

    Args:
        guess: mask and/or score [S, H, W].
        lesion: [S, H, W] bool, the annotation.
        body: [S, H, W] bool.
        spacing: mm between rows, columns and slices (NaN if only this is unknown), or None if unknown.
        distances: whether to compute HD95 and the lesion-wise Dice.
    """
    scores: dict[str, float] = {}
    positive = lesion.flatten(1).any(dim=1)
    if guess.score is not None:
        evaluated = body | lesion
        scores["auprc"] = average_precision(guess.score[evaluated], lesion[evaluated])
        evaluated = evaluated[positive]
        scores["auprc_positive"] = average_precision(guess.score[positive][evaluated], lesion[positive][evaluated])
    if guess.mask is not None:
        scores["dice"], scores["iou"] = dice(guess.mask, lesion), iou(guess.mask, lesion)
        scores["dice_positive"] = dice(guess.mask[positive], lesion[positive])
        scores["iou_positive"] = iou(guess.mask[positive], lesion[positive])
        if distances:
            unit = "px" if spacing is None else "mm"
            scores[f"hd95_slices_{unit}"] = hausdorff95_slices(guess.mask, lesion, spacing=spacing)
            scores["lesion_dice"] = lesion_wise_dice(guess.mask, lesion)
        area = guess.mask[~positive].flatten(1).sum(dim=1).double()
        scores["fp_area"] = float(area.mean()) if len(area) else float("nan")
        scores["fp_slices"] = float((area > 0).double().mean()) if len(area) else float("nan")
        if spacing is not None:  # NaN, and so left out, without the distance of slices
            scores["fp_volume_ml"] = int((guess.mask & ~lesion).sum()) * math.prod(spacing) / 1000
        if not bool(positive.any()):
            scores["healthy_hit"] = float(guess.mask.any())
    return scores


def _mean_known(per_class: list[dict[str, float]], measure: str) -> float | None:
    """Mean of a measure over the classes that define it; None if no class does."""
    values = [scores[measure] for scores in per_class if not math.isnan(scores.get(measure, math.nan))]
    return sum(values) / len(values) if values else None


def _only_patient(batch: Batch) -> str:
    patients = sorted(set(batch["patient"]))
    if len(patients) != 1:
        raise DataError(
            f"slices of {len(patients)} patients in one batch ({', '.join(patients[:5])}); "
            "patient scores need one patient per batch, as in the evaluation data loaders"
        )
    return patients[0]


def _common_spacing(batch: Batch) -> tuple[float, float, float] | None:
    """Spacing of rows, columns and slices (NaN if unknown) in mm if all slices share it; None if unknown."""
    if "spacing" not in batch:
        return None
    spacing = batch["spacing"].detach().double().cpu()
    plane = spacing[:, :2]
    if not bool(torch.isfinite(plane).all()) or not torch.allclose(plane, plane[:1].expand_as(plane)):
        return None
    depths = spacing[:, 2] if spacing.shape[1] > 2 else torch.full((len(spacing),), math.nan)
    depth = float(depths[0]) if torch.allclose(depths, depths[:1].expand_as(depths)) else math.nan
    return float(plane[0, 0]), float(plane[0, 1]), depth


def _intensities(image: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The image, or the first of several named inputs."""
    return image if isinstance(image, Tensor) else next(iter(image.values()))
