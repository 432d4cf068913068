"""Scores of slice labels over a whole data set, multi-label or multi-class, with floors."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_f1_score

from seewhy.batch import Batch, Prediction
from seewhy.metrics.gather import Row, gather_rows

__all__ = ["SliceLabelScores"]


class SliceLabelScores:
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
