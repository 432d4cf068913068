"""One case as a line of a table: what was predicted, how surely, and whether it was right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seewhy.metrics.gather import Row

__all__ = ["case_row"]


def case_row(
    *,
    name: str,
    patient: str,
    source: str,
    label: int | None,
    probability: Sequence[float],
    logits: Sequence[float],
    classes: Sequence[str],
    ordinal: bool = False,
) -> Row:
    """Put a case into a row.

    Args:
        name: of the case.
        patient: whose it is.
        source: its file.
        label: true class index, None where unknown.
        probability: of each class, calibrated.
        logits: raw class scores, one per class or a single one.
        classes: names of the classes.
        ordinal: the classes are ordered grades.

    Returns:
        `id`, `patient`, `source`; `label` and `prediction` (indices), `label_name`, `prediction_name`; `correct`;
        of grades `error` (prediction - label); of two classes `performance_type` (TP, FP, TN, FN; class 1 is
        positive); `confidence`; `probability_<class>`; `logit_<k>`. What needs the label is left out without it.
    """
    prediction = int(np.argmax(probability))
    row: Row = {"id": name, "patient": patient, "source": source}
    if label is not None:
        row["label"] = label
    row["prediction"] = prediction
    if label is not None:
        row["label_name"] = classes[label]
    row["prediction_name"] = classes[prediction]
    if label is not None:
        row["correct"] = int(prediction == label)
        if ordinal:
            row["error"] = prediction - label
        if len(classes) == 2:
            row["performance_type"] = ("T" if prediction == label else "F") + ("P" if prediction else "N")
    row["confidence"] = float(probability[prediction])
    row |= {f"probability_{one}": float(share) for one, share in zip(classes, probability, strict=True)}
    return row | {f"logit_{k}": float(score) for k, score in enumerate(logits)}
