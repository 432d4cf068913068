"""Scores of segmented volumes against their labels, class by class and volume by volume, beside floors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from monai.metrics import compute_hausdorff_distance
from torch import Tensor

from seewhy.metrics.bootstrap import bootstrap_interval
from seewhy.metrics.gather import Row, gather_rows
from seewhy.metrics.segmentation.floors import volume_floors
from seewhy.metrics.segmentation.overlap import cldice, dice, iou

__all__ = ["PREDICTION", "VolumeScores", "hausdorff95_volume"]

PREDICTION = "prediction"
"""Name of the model's own answer among the methods."""
MEASURES = ("dice", "iou", "cldice", "hd95_mm", "hd95_px")


class VolumeScores:
    """Dice, IoU, clDice and HD95 of every class of every volume; keeps numbers only.

    A class that a volume does not show has no score there. The score of a volume is the mean over its classes, that
    of a patient the mean over his volumes (or boxes of them), and intervals are over patients.

    Args:
        classes: names of the K foreground classes or regions.
        structure: compute clDice and HD95 too, which take longest.
        with_floors: score the guesses of `seewhy.metrics.segmentation.floors` too.
        resamples: of the bootstrap.
        seed: of the bootstrap.
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
            name: of the volume, or of the box of it.
            patient: whose it is.
            spacing: mm along Z, Y and X, or None.
            known: [Z, Y, X] bool, voxels whose label says something; all where None.
        """
        truth = truth.cpu()
        guesses = {PREDICTION: predicted.cpu()}
        if self.with_floors:
            guesses |= volume_floors(image, truth if known is None else truth & known.cpu())
        for method, masks in guesses.items():
            rows = []
            for label, mask, own in zip(self.classes, masks, truth, strict=True):
                if known is not None:
                    mask, own = mask & known.cpu(), own & known.cpu()
                rows.append({"class": label, **self._measures(mask, own, spacing)})
            about = {"id": name, "patient": patient}
            self._rows.append({**about, "map": method, "class": "mean", **_means(rows)})
            self._rows += [{**about, "map": f"{method}_{row['class']}", **row} for row in rows]

    def reset(self) -> None:
        """Forget all volumes."""
        self._rows = []

    def rows(self) -> list[Row]:
        """One row per volume, method and class (`mean`: of all classes) of all ranks; None where there is no score."""
        return gather_rows(self._rows, key=("id", "map"))

    def compute(self) -> dict[str, float]:
        """Means over patients with their 95 % bootstrap intervals; the same on every rank.

        Returns:
            `<method>/<measure>` over classes and, of the prediction and its best floor, `<method>_<class>/<measure>`,
            with `_low` and `_high` from three patients on; `patients` and `volumes`. Empty without volumes.
        """
        rows = self.rows()
        if not rows:
            return {}
        scores: dict[str, float] = {}
        for method in dict.fromkeys(row["map"] for row in rows):
            own = [row for row in rows if row["map"] == method]
            if own[0]["class"] != "mean" and not method.startswith((PREDICTION, "floor_window")):
                continue
            for measure in MEASURES:
                scores |= self._summary(f"{method}/{measure}", own, measure)
        patients = {row["patient"] for row in rows}
        volumes = {row["id"] for row in rows}
        return {**scores, "patients": float(len(patients)), "volumes": float(len(volumes))}

    def _measures(self, mask: Tensor, truth: Tensor, spacing: Sequence[float] | None) -> dict[str, float | None]:
        found: dict[str, float] = {"dice": dice(mask, truth), "iou": iou(mask, truth)}
        if self.structure:
            found["cldice"] = cldice(mask, truth)
            found["hd95_px" if spacing is None else "hd95_mm"] = hausdorff95_volume(mask, truth, spacing=spacing)
        return {name: None if math.isnan(value) else value for name, value in found.items()}

    def _summary(self, name: str, rows: list[Row], measure: str) -> dict[str, float]:
        """The mean over patients, each of them the mean over his volumes."""
        by_patient: dict[str, list[float]] = {}
        for row in rows:
            if row.get(measure) is not None:
                by_patient.setdefault(row["patient"], []).append(row[measure])
        values = [float(np.mean(own)) for own in by_patient.values()]
        if not values:
            return {}
        interval = bootstrap_interval(values, resamples=self.resamples, seed=self.seed)
        if interval is None:
            return {name: float(np.mean(values))}
        return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def hausdorff95_volume(prediction: Tensor, mask: Tensor, *, spacing: Sequence[float] | None = None) -> float:
    """95th percentile of the distances between two surfaces (Huttenlocher 1993), the larger of both directions.

    Args:
        prediction: [Z, Y, X] bool.
        mask: [Z, Y, X] bool.
        spacing: mm along Z, Y and X, or None to measure in voxels.

    Returns:
        mm (or voxels); NaN with an empty mask; the volume's diagonal with an empty prediction, so that nobody wins by
        staying silent.
    """
    if not bool(mask.any()):
        return math.nan
    steps = [1.0, 1.0, 1.0] if spacing is None else [float(step) for step in spacing]
    if not bool(prediction.any()):
        return math.sqrt(sum((size * step) ** 2 for size, step in zip(mask.shape, steps, strict=True)))
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn of an argument that their own distance function passes.
        warnings.simplefilter("ignore", FutureWarning)
        distance: Tensor = compute_hausdorff_distance(
            prediction[None, None], mask[None, None], include_background=True, percentile=95, spacing=steps
        )
    return float(distance)


def _means(rows: Iterable[Row]) -> dict[str, float | None]:
    """Each measure averaged over the classes that have it."""
    listed = list(rows)
    found: dict[str, float | None] = {}
    for measure in (key for key in listed[0] if key != "class"):
        values = [row[measure] for row in listed if row[measure] is not None]
        found[measure] = sum(values) / len(values) if values else None
    return found
