"""Scores of slice labels over a whole data set, multi-label or multi-class, with floors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_f1_score

from seewhy.batch import Batch, Prediction
from seewhy.metrics.gather import Row, RowCollection, gather_rows

__all__ = ["SliceLabelScores", "fit_presence_threshold"]


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
