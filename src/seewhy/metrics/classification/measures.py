"""Scores of classified cases as functions of case weights, so that a bootstrap is one matrix product.

torchmetrics has no case weights: its AUROC, average precision, kappa and calibration error would have to be computed
again for each of 2000 resamples. The tests compare the unweighted values with scikit-learn.

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
    """All scores of predictions under each weighting; NaN where a score is undefined.

    Args:
        probability: [N, C] in [0, 1], rows sum to 1; the most probable class is the prediction.
        label: [N] class indices.
        weights: [R, N] weight of each case; None weights each case once, R = 1.
        ordinal: the classes are ordered grades.

    Returns:
        Name → [R]: `accuracy`; `balanced_accuracy`, mean recall; `f1`, `auroc` (one against the rest) and
        `average_precision`, means over the classes with cases, and for two classes the average precision of
        class 1; `kappa` (Cohen 1960), for grades with quadratic weights (Cohen 1968); `mae`, mean error in grades, for
        grades only; `ece`; `brier`, the mean over cases of the sum over classes of squared errors, 0 to 2 (Brier
        1950); `nll` in nats; and per class k `recall_k`, `precision_k`, `f1_k`, `auroc_k`.

    Example:
        >>> probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
        >>> scores = case_measures(probability, np.array([0, 1, 1, 1]))
        >>> {name: round(float(scores[name][0]), 3) for name in ("accuracy", "auroc", "kappa", "average_precision")}
        {'accuracy': 0.75, 'auroc': 1.0, 'kappa': 0.5, 'average_precision': 1.0}
    """
    weights = np.ones((1, len(label))) if weights is None else np.asarray(weights, dtype=np.float64)
    count = probability.shape[1]
    total = weights.sum(axis=1)
    matrix = confusion_matrices(probability.argmax(axis=1), label, count, weights)
    per_class = _from_confusion(matrix)
    per_class["auroc"] = aurocs(probability, label, weights)
    precision = average_precisions(probability, label, weights)
    truth = np.eye(count)[label]
    true_probability = np.clip(probability[np.arange(len(label)), label], np.finfo(np.float64).tiny, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = {
            "accuracy": matrix.trace(axis1=1, axis2=2) / total,
            "balanced_accuracy": _mean_defined(per_class["recall"]),
            "f1": _mean_defined(per_class["f1"]),
            "auroc": _mean_defined(per_class["auroc"]),
            "average_precision": precision[:, 1] if count == 2 else _mean_defined(precision),
            "kappa": _kappa(matrix, quadratic=ordinal),
            "ece": expected_calibration_error(probability, label, weights),
            "brier": weights @ np.square(probability - truth).sum(axis=1) / total,
            "nll": weights @ -np.log(true_probability) / total,
        }
        if ordinal:
            scores["mae"] = (matrix * _distance(count)).sum(axis=(1, 2)) / total
    return scores | {f"{name}_{k}": values[:, k] for name, values in per_class.items() for k in range(count)}


def confusion_matrices(prediction: Classes, label: Classes, count: int, weights: Array | None = None) -> Array:
    """[R, C, C] weight of the cases of class `row` that were predicted as `column`."""
    weights = np.ones((1, len(label))) if weights is None else weights
    pairs: Array = np.eye(count * count)[label * count + prediction]
    matrices: Array = (weights @ pairs).reshape(len(weights), count, count)
    return matrices


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
    """[R] mean over cases of |confidence - accuracy| of their confidence bin (Guo 2017, eq. 3).

    Confidence is the probability of the predicted class. With few cases even a perfectly calibrated model has an error
    well above 0.

    Example:
        >>> probability = np.array([[0.1, 0.9]] * 10)
        >>> expected_calibration_error(probability, np.array([1] * 8 + [0] * 2)).round(3).tolist()
        [0.1]
    """
    weights = np.ones((1, len(label))) if weights is None else weights
    confidence = probability.max(axis=1)
    correct = probability.argmax(axis=1) == label
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = weights @ (np.eye(bins)[place] * (correct - confidence)[:, None])
    result: Array = np.abs(gaps).sum(axis=1) / weights.sum(axis=1)
    return result


def _from_confusion(matrix: Array) -> dict[str, Array]:
    """Recall, precision and F1 of each class, [R, C]."""
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    true, predicted = matrix.sum(axis=2), matrix.sum(axis=1)
    f1 = _ratio(2 * hits, true + predicted)
    return {
        "recall": _ratio(hits, true),
        "precision": _ratio(hits, predicted),
        "f1": np.where(true > 0, f1, np.nan),  # undefined for a class without cases
    }


def _kappa(matrix: Array, *, quadratic: bool) -> Array:
    """1 - observed / expected disagreement; NaN if all cases and all predictions are of one class."""
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
    """Weights of positive and of negative cases at or above each distinct score, from the highest: [R, groups + 1]."""
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


def _mean_defined(values: Array) -> Array:
    """[R] mean over the classes with a defined score."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
