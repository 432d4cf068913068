"""Scores of one class per case as functions of case weights, so that a bootstrap is a matrix of weights.

Letters: N cases, C classes, R weightings (1 for the plain scores, one per resample in a bootstrap).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "aurocs", "average_precisions", "case_measures", "confusion_matrices", "expected_calibration_error"]

Array: TypeAlias = "NDArray[np.float64]"
Classes: TypeAlias = "NDArray[np.int64]"

BINS = 15
"""Bins of equal width of the calibration error (Guo 2017)."""


def case_measures(
    probability: Array, label: Classes, weights: Array | None = None, *, ordinal: bool = False
) -> dict[str, Array]:
    """All scores of some predictions; NaN where a weighting leaves a score undefined.

    Args:
        probability: [N, C] in [0, 1], rows sum to 1; the most probable class is the prediction.
        label: [N] class indices.
        weights: [R, N] how often each case counts; None counts each once, R = 1.
        ordinal: the classes are ordered grades.

    Returns:
        Name → [R]: `accuracy`; `balanced_accuracy`, mean recall; `f1`, `auroc` (one against the rest) and
        `average_precision`, means over the classes that have cases, the last of class 1 alone where there are
        two; `kappa` of Cohen (1960), for grades with quadratic weights (1968); `mae`, mean error in grades, for
        grades only; `ece`; `brier`, the mean over cases of the sum over classes of squared errors, 0 to 2 (Brier
        1950); `nll` in nats; and per class k `recall_k`, `precision_k`, `f1_k`, `auroc_k`.
    """
    weights = np.ones((1, len(label))) if weights is None else np.asarray(weights, dtype=np.float64)
    count = probability.shape[1]
    total = weights.sum(axis=1)
    matrix = confusion_matrices(probability.argmax(axis=1), label, count, weights)
    per_class = _from_confusion(matrix)
    per_class["auroc"] = aurocs(probability, label, weights)
    precision = average_precisions(probability, label, weights)
    truth = np.eye(count)[label]
    own = np.clip(probability[np.arange(len(label)), label], np.finfo(np.float64).tiny, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = {
            "accuracy": matrix.trace(axis1=1, axis2=2) / total,
            "balanced_accuracy": _mean_known(per_class["recall"]),
            "f1": _mean_known(per_class["f1"]),
            "auroc": _mean_known(per_class["auroc"]),
            "average_precision": precision[:, 1] if count == 2 else _mean_known(precision),
            "kappa": _kappa(matrix, quadratic=ordinal),
            "ece": expected_calibration_error(probability, label, weights),
            "brier": weights @ np.square(probability - truth).sum(axis=1) / total,
            "nll": weights @ -np.log(own) / total,
        }
        if ordinal:
            scores["mae"] = (matrix * _distance(count)).sum(axis=(1, 2)) / total
    return scores | {f"{name}_{k}": values[:, k] for name, values in per_class.items() for k in range(count)}


def confusion_matrices(prediction: Classes, label: Classes, count: int, weights: Array | None = None) -> Array:
    """[R, C, C]: weight of the cases of class `row` that were called `column`."""
    weights = np.ones((1, len(label))) if weights is None else weights
    pairs: Array = np.eye(count * count)[label * count + prediction]
    found: Array = (weights @ pairs).reshape(len(weights), count, count)
    return found


def aurocs(probability: Array, label: Classes, weights: Array) -> Array:
    """[R, C] area under the ROC curve of each class against the rest; ties count half."""
    columns = []
    for k in range(probability.shape[1]):
        hits, false = _cumulative(probability[:, k], label == k, weights)
        area = (np.diff(false, axis=1) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(axis=1)
        columns.append(_ratio(area, hits[:, -1] * false[:, -1]))
    return np.stack(columns, axis=1)


def average_precisions(probability: Array, label: Classes, weights: Array) -> Array:
    """[R, C] average precision of each class against the rest, without interpolation; ties enter together."""
    columns = []
    for k in range(probability.shape[1]):
        hits, false = _cumulative(probability[:, k], label == k, weights)
        precision = np.nan_to_num(_ratio(hits, hits + false))
        columns.append(_ratio((np.diff(hits, axis=1) * precision[:, 1:]).sum(axis=1), hits[:, -1]))
    return np.stack(columns, axis=1)


def expected_calibration_error(
    probability: Array, label: Classes, weights: Array | None = None, *, bins: int = BINS
) -> Array:
    """[R] mean over cases of |confidence - accuracy| of the bin of confidence they lie in (Guo 2017, eq. 3).

    Confidence is the probability of the predicted class. With few cases even a perfectly calibrated model has an
    error well above 0.
    """
    weights = np.ones((1, len(label))) if weights is None else weights
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == label
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = weights @ (np.eye(bins)[place] * (right - confidence)[:, None])
    result: Array = np.abs(gaps).sum(axis=1) / weights.sum(axis=1)
    return result


def _from_confusion(matrix: Array) -> dict[str, Array]:
    """Recall, precision and F1 of each class, [R, C]."""
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    true, called = matrix.sum(axis=2), matrix.sum(axis=1)
    f1 = _ratio(2 * hits, true + called)
    return {
        "recall": _ratio(hits, true),
        "precision": _ratio(hits, called),
        "f1": np.where(true > 0, f1, np.nan),  # a class without cases has nothing to be found
    }


def _kappa(matrix: Array, *, quadratic: bool) -> Array:
    """1 - observed / expected disagreement; NaN where all cases are of one class and called so."""
    count = matrix.shape[1]
    cost = _distance(count) ** 2 if quadratic else (_distance(count) > 0).astype(np.float64)
    expected = matrix.sum(axis=2)[:, :, None] * matrix.sum(axis=1)[:, None, :]
    total = matrix.sum(axis=(1, 2))
    return 1.0 - _ratio((matrix * cost).sum(axis=(1, 2)) * total, (expected * cost).sum(axis=(1, 2)))


def _distance(count: int) -> Array:
    grades = np.arange(count, dtype=np.float64)
    distance: Array = np.abs(grades[:, None] - grades[None])
    return distance


def _cumulative(score: Array, truth: NDArray[np.bool_], weights: Array) -> tuple[Array, Array]:
    """Weight of true and of false cases at or above each distinct score, highest first, from 0: [R, groups + 1]."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of each group of equal scores
    start = np.zeros((len(weights), 1))
    parts: list[Any] = []
    for kind in (truth, ~truth):
        steps = np.cumsum(weights[:, order] * kind[order], axis=1)[:, last]
        parts.append(np.concatenate([start, steps], axis=1))
    return parts[0], parts[1]


def _ratio(top: Array, bottom: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Array = np.where(bottom > 0, top / bottom, np.nan)
    return ratio


def _mean_known(values: Array) -> Array:
    """[R] mean over the classes that are defined."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))
