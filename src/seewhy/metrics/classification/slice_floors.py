"""Floors of slice classifiers: what the position of a slice and its area of tissue tell without any intensity.

Lesions are rarely at the top or the bottom of a head, so a network that only measures how large a slice is can have a
high AUROC. No network is needed for these floors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from seewhy.batch import Batch
from seewhy.metrics.logistic import fit_logistic

__all__ = ["PositionFloors", "describe_slices"]

Row = dict[str, Any]

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
