"""Scores of segmented volumes against their labels per class, volume and patient, with floors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from seewhy.metrics.bootstrap import named_interval
from seewhy.metrics.gather import Row, RowCollection, gather_rows
from seewhy.metrics.segmentation.floors import volume_floors
from seewhy.metrics.segmentation.overlap import cldice, dice, hausdorff95_volume, iou

__all__ = ["PREDICTION", "VolumeScores"]

PREDICTION = "prediction"
"""Name of the model's prediction in the results, next to the floors."""
SHARE, LENGTH = (0.0, 1.0), (0.0, math.inf)
MEASURES = {"dice": SHARE, "iou": SHARE, "cldice": SHARE, "hd95_mm": LENGTH, "hd95_px": LENGTH}
"""Measure → its range."""


class VolumeScores(RowCollection):
    """Dice, IoU, clDice and HD95 of every class of every volume; keeps the numbers, no voxels.

    A class without voxels in a volume has no score there. The score of a volume is the mean over its classes, the score
    of a patient the mean over the patient's volumes (or boxes), and intervals are over patients. `hd95_mm` is measured
    in 3D; without a spacing it is `hd95_px`, in voxels.

    Args:
        classes: names of the K foreground classes or regions.
        structure: also compute clDice and HD95, the slowest measures.
        with_floors: also score the guesses of `seewhy.metrics.segmentation.floors`.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str],
        structure: bool = True,
        with_floors: bool = True,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.classes, self.structure, self.with_floors = list(classes), structure, with_floors
        self.resamples, self.seed = resamples, seed
        self._rows: list[Row] = []

    def update(
        self,
        predicted: Tensor,
        truth: Tensor,
        *,
        image: Tensor,
        name: str,
        patient: str,
        spacing: Sequence[float] | None = None,
        known: Tensor | None = None,
    ) -> None:
        """Score one volume.

        Args:
            predicted: [K, Z, Y, X] bool.
            truth: [K, Z, Y, X] bool.
            image: [C, Z, Y, X], for the floors.
            name: name of the volume, or of a box of it.
            patient: patient of the volume.
            spacing: mm along Z, Y and X, or None.
            known: [Z, Y, X] bool, voxels with a valid label; None for all voxels.
        """
        truth = truth.cpu()
        guesses = {PREDICTION: predicted.cpu()}
        if self.with_floors:
            guesses |= volume_floors(image, truth if known is None else truth & known.cpu())
        for method, masks in guesses.items():
            rows = []
            for label, mask, target in zip(self.classes, masks, truth, strict=True):
                if known is not None:
                    mask, target = mask & known.cpu(), target & known.cpu()
                rows.append({"class": label, **self._measure(mask, target, spacing)})
            about = {"id": name, "patient": patient}
            self._rows.append({**about, "map": method, "class": "mean", **_means(rows)})
            self._rows += [{**about, "map": f"{method}_{row['class']}", **row} for row in rows]

    def reset(self) -> None:
        """Forget all volumes."""
        self._rows = []

    def rows(self) -> list[Row]:
        """One row per volume, method and class (`mean`: over classes) of all ranks; None for an undefined score."""
        return gather_rows(self._rows, key=("id", "map"))

    def compute(self) -> dict[str, float]:
        """Means over patients with their 95 % bootstrap intervals; the same on every rank.

        Returns:
            `<method>/<measure>`, means over classes; for the prediction and `floor_window` also
            `<method>_<class>/<measure>`; `_low` and `_high` from three patients on; `patients` and `volumes`. Empty
            without volumes.
        """
        rows = self.rows()
        if not rows:
            return {}
        scores: dict[str, float] = {}
        for method in dict.fromkeys(row["map"] for row in rows):
            method_rows = [row for row in rows if row["map"] == method]
            if method_rows[0]["class"] != "mean" and not method.startswith((PREDICTION, "floor_window")):
                continue
            for measure in MEASURES:
                scores |= self._summarise(f"{method}/{measure}", method_rows, measure)
        patients = {row["patient"] for row in rows}
        volumes = {row["id"] for row in rows}
        return {**scores, "patients": float(len(patients)), "volumes": float(len(volumes))}

    def _measure(self, mask: Tensor, truth: Tensor, spacing: Sequence[float] | None) -> dict[str, float | None]:
        scores: dict[str, float] = {"dice": dice(mask, truth), "iou": iou(mask, truth)}
        if self.structure:
            scores["cldice"] = cldice(mask, truth)
            scores["hd95_px" if spacing is None else "hd95_mm"] = hausdorff95_volume(mask, truth, spacing=spacing)
        return {name: None if math.isnan(value) else value for name, value in scores.items()}

    def _summarise(self, name: str, rows: list[Row], measure: str) -> dict[str, float]:
        """Mean and interval over patients, each patient being the mean over its volumes."""
        by_patient: dict[str, list[float]] = {}
        for row in rows:
            if row.get(measure) is not None:
                by_patient.setdefault(row["patient"], []).append(row[measure])
        values = [float(np.mean(scores)) for scores in by_patient.values()]
        return named_interval(name, values, limits=MEASURES[measure], resamples=self.resamples, seed=self.seed)


def _means(rows: Iterable[Row]) -> dict[str, float | None]:
    """Each measure, averaged over the classes that define it."""
    rows = list(rows)
    means: dict[str, float | None] = {}
    for measure in (key for key in rows[0] if key != "class"):
        values = [row[measure] for row in rows if row[measure] is not None]
        means[measure] = sum(values) / len(values) if values else None
    return means
