"""Scores of slice labels over a whole data set, and their floors: frequencies, and the position and area of slices.

Lesions are rarely at the top or the bottom of a head, so a network that only measures how large a slice is can have a
high AUROC. No network is needed for these floors.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from statistics import median
from typing import cast

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_f1_score

from seewhy.batch import Batch, Prediction
from seewhy.metrics.gather import Row, RowCollection, gather_rows
from seewhy.metrics.logistic import fit_logistic

__all__ = ["PositionFloors", "SliceLabelScores", "describe_slices", "fit_presence_threshold"]

QUARTER = 0.25
"""Place of the threshold of presence between healthy (0) and ill (1) patients."""


def fit_presence_threshold(probability: Sequence[float], label: Sequence[int], patient: Sequence[str]) -> float:
    """Threshold on a patient's highest slice probability above which the class is present, from labels of slices.

    The highest probability of each patient with the class is compared with that of each patient without it; if all
    patients have it, with that of their slices without it. The threshold is a quarter of the way, in log odds, from the
    strongest healthy patient, or, where these overlap, the median of the healthy, to the weakest ill one: it is nearer
    to the healthy because a missed lesion is worse than a false region. No patient of this set is lost.

    Args:
        probability: [N] predicted probability of the class in each slice, in [0, 1].
        label: [N] whether the slice shows the class, 0 or 1.
        patient: [N] patient of each slice.

    Returns:
        In (0, 1); 0, which every patient exceeds, if there are no slices of either kind, or if even the median of the
        healthy is as high as the weakest ill patient, so that no threshold helps.

    Example:
        >>> probability, label = [0.9, 0.2, 0.95, 0.1, 0.3], [1, 0, 1, 0, 0]
        >>> round(fit_presence_threshold(probability, label, ["a", "a", "b", "c", "d"]), 3)
        0.478
    """
    highest: dict[tuple[str, bool], float] = {}
    for share, present, name in zip(probability, label, patient, strict=True):
        key = (name, bool(present))
        highest[key] = max(highest.get(key, 0.0), float(share))
    ill = {name: value for (name, present), value in highest.items() if present}
    free = {name: value for (name, present), value in highest.items() if not present}
    healthy = [value for name, value in free.items() if name not in ill] or list(free.values())
    if not ill or not healthy:
        return 0.0
    weakest, strongest = min(ill.values()), max(healthy)
    if strongest >= weakest:
        strongest = median(healthy)
    if strongest >= weakest:
        return 0.0
    place = _log_odds(strongest) + QUARTER * (_log_odds(weakest) - _log_odds(strongest))
    return 1 / (1 + math.exp(-place))


def _log_odds(probability: float) -> float:
    share = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(share / (1 - share))


class SliceLabelScores(RowCollection):
    """AUROC, F1 and accuracy over all samples, each counted once, the same on every rank.

    A mean of scores over samples or batches is not the score of the data set (the F1 of a single sample is 0 or 1), so
    the K probabilities of each sample are kept and scored at the end. For cases of patients with intervals, see
    `seewhy.metrics.classification.cases.CaseScores`.

    Multi-label samples (`label` [B, K]) are predicted per class with `threshold`, multi-class samples (`label` [B]
    int64) by the most probable class. AUROC and F1 are averaged over the classes that define them (macro). Undefined
    scores are left out, and `omitted` holds the reason.

    Args:
        threshold: probability above which a class is present.
    """

    def __init__(self, *, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self.omitted: dict[str, str] = {}
        """Score → reason why the last `compute` left it out."""
        self._rows: list[Row] = []

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Keep the probabilities and labels of a batch.

        Args:
            prediction: with `probability`, [B, K] float in [0, 1].
            batch: with `id`, and `label` as [B, K] in {0, 1} or [B] class indices; `patient` where known.
        """
        probability = prediction["probability"].detach().float().cpu().tolist()
        label = batch["label"].detach().cpu().tolist()
        patients = batch.get("patient", batch["id"])
        self._rows += [
            {"id": name, "patient": patient, "probability": p, "label": y}
            for name, patient, p, y in zip(batch["id"], patients, probability, label, strict=True)
        ]

    def reset(self) -> None:
        """Forget all samples."""
        self._rows = []
        self.omitted = {}

    def rows(self) -> list[Row]:
        """One row per sample of all ranks: `id`, `patient`, `probability` (list), `label` (list or index)."""
        return gather_rows(self._rows, key=("id",))

    def presence_thresholds(self) -> list[float]:
        """`fit_presence_threshold` of each of the K classes of multi-label samples; empty without samples."""
        rows = self.rows()
        patients = [str(row["patient"]) for row in rows]
        count = len(rows[0]["label"]) if rows else 0
        columns = ([row["probability"][k] for row in rows] for k in range(count))
        labels = ([row["label"][k] > 0.5 for row in rows] for k in range(count))
        return [fit_presence_threshold(*pair, patients) for pair in zip(columns, labels, strict=True)]

    def compute(self) -> dict[str, float]:
        """Scores of the data set and their floors.

        Returns:
            `auroc`, `f1`, `accuracy` in [0, 1] where defined; `floor_chance/auroc`;
            `floor_majority/accuracy` (always the more frequent label); `floor_positive/f1` (every class
            always present) or, for multi-class, `floor_majority/f1`; `samples`, their number. Empty without samples.
        """
        rows = self.rows()
        self.omitted = {}
        if not rows:
            return {}
        probability = torch.tensor([row["probability"] for row in rows], dtype=torch.float64)
        label = torch.tensor([row["label"] for row in rows])
        scores = self._multi_class(probability, label) if label.ndim == 1 else self._multi_label(probability, label)
        for name, reason in self.omitted.items():
            warnings.warn(f"{name} is left out: {reason}", stacklevel=2)
        return {**scores, "samples": float(len(rows))}

    def _multi_label(self, probability: Tensor, label: Tensor) -> dict[str, float]:
        truth = label > 0.5
        decision = probability > self.threshold
        frequent = truth.double().mean(dim=0) > 0.5
        return {
            **self._macro("auroc", probability, truth),
            **self._macro("f1", decision, truth),
            "accuracy": _share(decision == truth),
            "floor_chance/auroc": 0.5,
            "floor_majority/accuracy": _share(truth == frequent),
            **self._macro("floor_positive/f1", torch.ones_like(truth), truth),
        }

    def _multi_class(self, probability: Tensor, label: Tensor) -> dict[str, float]:
        count = probability.shape[1]
        truth = torch.nn.functional.one_hot(label.long(), count).bool()
        choice = probability.argmax(dim=1)
        majority = torch.full_like(choice, int(truth.sum(dim=0).argmax()))
        return {
            **self._macro("auroc", probability, truth),
            **self._macro("f1", torch.nn.functional.one_hot(choice, count).bool(), truth),
            "accuracy": _share(choice == label),
            "floor_chance/auroc": 0.5,
            "floor_majority/accuracy": _share(majority == label),
            **self._macro("floor_majority/f1", torch.nn.functional.one_hot(majority, count).bool(), truth),
        }

    def _macro(self, name: str, prediction: Tensor, truth: Tensor) -> dict[str, float]:
        """Mean of a score over the classes that define it; without any, the reason is kept in `omitted`."""
        values, reasons = [], []
        for k in range(truth.shape[1]):
            positive, total = int(truth[:, k].sum()), len(truth)
            if positive == 0 or (positive == total and name == "auroc"):
                reasons.append(f"class {k}: {positive} of {total} samples are positive")
            elif name == "auroc":
                values.append(float(binary_auroc(prediction[:, k], truth[:, k].long())))
            else:
                values.append(float(binary_f1_score(prediction[:, k].long(), truth[:, k].long())))
        if reasons and not values:
            self.omitted[name] = "; ".join(reasons)
            return {}
        return {name: sum(values) / len(values)}


def _share(correct: Tensor) -> float:
    return float(correct.double().mean())


FLOORS = {
    "position": ("position", "from_middle"),
    "area": ("area",),
    "position_area": ("position", "from_middle", "area"),
}
"""Floor → features of its logistic regression."""
STRENGTH = 100.0
"""Inverse of the penalty: hardly any, because a floor should be as strong as it can be."""


def describe_slices(batch: Batch) -> list[Row]:
    """Position, area and labels of the slices of one patient.

    Args:
        batch: all slices of a patient in order: `id`, `body` [S, H, W] bool, `label` [S, K] in {0, 1}.

    Returns:
        Per slice `id`, `position` from 0 (first) to 1 (last), `from_middle` (squared distance from the middle, 1 at the
        ends), `area` (pixels of tissue, 1 for the patient's largest slice) and `label` (list). Empty without body or
        labels.

    Example:
        >>> body = torch.zeros(3, 4, 4, dtype=torch.bool)
        >>> body[1] = body[2, :2] = True
        >>> rows = describe_slices({"id": ["a", "b", "c"], "body": body, "label": torch.tensor([[0.0], [1.0], [0.0]])})
        >>> [(row["position"], row["area"]) for row in rows]
        [(0.0, 0.0), (0.5, 1.0), (1.0, 0.5)]
    """
    if "body" not in batch or "label" not in batch or batch["label"].ndim != 2:
        return []
    area = batch["body"].flatten(1).sum(dim=1).double()
    shares = (area / area.max().clamp(min=1)).tolist()
    last = max(len(shares) - 1, 1)
    labels = batch["label"].tolist()
    return [
        {"id": name, "position": i / last, "from_middle": (2 * i / last - 1) ** 2, "area": share, "label": label}
        for i, (name, share, label) in enumerate(zip(batch["id"], shares, labels, strict=True))
    ]


class PositionFloors:
    """Logistic regressions from the position and the area of a slice, fitted on training patients.

    Args:
        rows: of the slices of training patients, see `describe_slices`.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        """AUROC of each floor over other slices, a mean over the classes that have slices of both kinds in both sets.

        Args:
            rows: of the slices of test patients, see `describe_slices`.

        Returns:
            `floor_position/auroc`, `floor_area/auroc` and `floor_position_area/auroc` in [0, 1], comparable with the
            `auroc` of `seewhy.metrics.classification.slice_labels.SliceLabelScores`; empty if undefined.
        """
        if not self.rows or not rows:
            return {}
        known, new = (torch.tensor([row["label"] for row in part]) > 0.5 for part in (self.rows, rows))
        classes = [k for k in range(new.shape[1]) if _has_both(known[:, k]) and _has_both(new[:, k])]
        scores = {}
        for name, features in FLOORS.items():
            train, test = (
                torch.tensor([[row[feature] for feature in features] for row in part], dtype=torch.float64)
                for part in (self.rows, rows)
            )
            values = [_auroc(fit_logistic(train, known[:, k], strength=STRENGTH)(test), new[:, k]) for k in classes]
            if values:
                scores[f"floor_{name}/auroc"] = sum(values) / len(values)
        return scores


def _auroc(scores: Tensor, positive: Tensor) -> float:
    # torchmetrics takes the sigmoid of scores outside 0 to 1, which makes large ones equal.
    shares = (scores - scores.min()) / (scores.max() - scores.min()).clamp(min=1e-12)
    return float(cast(Tensor, binary_auroc(shares, positive.long())))


def _has_both(positive: Tensor) -> bool:
    return bool(positive.any()) and not bool(positive.all())
