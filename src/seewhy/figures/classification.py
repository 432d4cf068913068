"""Confusion matrix and reliability diagram of case classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seewhy.figures.labels import join_title
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes

__all__ = ["classes_of", "curves_figure", "grading_figure", "reliability_curve"]

PREFIX = "probability_"
"""Prefix of the columns with predicted probabilities."""


def classes_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the classes, from the columns of `patients.csv`."""
    return [name.removeprefix(PREFIX) for name in rows[0] if name.startswith(PREFIX)] if rows else []


def reliability_curve(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 8
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and number of cases in bins with equal numbers of cases.

    With bins of equal width some would have too few cases for an accuracy.

    Args:
        confidence: [N] probability of the predicted class.
        right: [N] whether the prediction is correct.
        bins: largest number of bins; each has at least five cases if there are five.

    Example:
        >>> confidence, right = np.linspace(0.5, 0.95, 10), np.arange(10) >= 5
        >>> means, shares, counts = reliability_curve(confidence, right)
        >>> shares.tolist(), counts.tolist()
        ([0.0, 1.0], [5, 5])
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(bins, len(order) // 5))) if len(part)]
    means = np.array([confidence[part].mean() for part in parts])
    shares = np.array([right[part].mean() for part in parts])
    return means, shares, np.array([len(part) for part in parts])


def grading_figure(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", ece: float | None = None, phantom: bool = False
) -> Figure:
    """Draw the confusion matrix and the reliability diagram of tested cases.

    Args:
        rows: one per case, as returned by `seewhy.metrics.classification.cases.CaseScores.rows`.
        title: title of the figure.
        ece: calibration error, printed in the title of the diagram.
        phantom: whether the data are synthetic, which the title then states.
    """
    names = classes_of(rows)
    label = np.array([int(row["label"]) for row in rows])
    prediction = np.array([int(row["prediction"]) for row in rows])
    confidence = np.array([float(row["confidence"]) for row in rows])
    figure = blank_figure(5.2 + 0.55 * len(names) + 4.0, 3.0 + 0.42 * len(names))
    left, right = figure.subplots(1, 2, width_ratios=[1 + 0.08 * len(names), 1])
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (label, prediction), 1)
    _draw_confusion(left, matrix, names)
    _draw_reliability(right, confidence, prediction == label, ece)
    return add_captions(figure, head=join_title(title, phantom=phantom))


Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def curves_figure(
    curves: Mapping[str, tuple[Points, Points, float]], *, title: str = "", phantom: bool = False
) -> Figure:
    """Draw ROC and precision-recall curves of several classes, with the curves of a guess.

    Args:
        curves: class → false positive rate and true positive rate; recall and precision; share of the class.
        title: title of the figure.
        phantom: whether the data are synthetic, which the title then states.
    """
    figure = blank_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        style_axes(axes)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
    for number, (name, (roc, recall, share)) in enumerate(curves.items()):
        colour = PALETTE[number % len(PALETTE)]
        left.plot(*roc, color=colour, linewidth=1.6, label=name)
        right.plot(*recall, color=colour, linewidth=1.6, label=name)
        right.axhline(share, color=colour, linewidth=0.9, linestyle="--", alpha=0.6)
    left.set_xlabel("false positive rate", fontsize=8.5, color=INK)
    left.set_ylabel("true positive rate", fontsize=8.5, color=INK)
    left.set_title("ROC; dashed: a guess", fontsize=9.5, color=INK, loc="left")
    right.set_xlabel("recall", fontsize=8.5, color=INK)
    right.set_ylabel("precision", fontsize=8.5, color=INK)
    right.set_title("Precision and recall; dashed: share of the class", fontsize=9.5, color=INK, loc="left")
    left.legend(fontsize=8, frameon=False, loc="lower right")
    return add_captions(figure, head=join_title(title, phantom=phantom))


def _draw_confusion(axes: Axes, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw counts, shaded by their share of the row; the diagonal then shows the recall of each class."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), count in np.ndenumerate(matrix):
        text = f"{count}\n{100 * share[i, j]:.0f} %" if count else "0"
        axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if share[i, j] > 0.55 else INK)
    places = range(len(names))
    axes.set_xticks(places, list(names), fontsize=8, rotation=30 if len(names) > 3 else 0)
    axes.set_yticks(places, [f"{name} ({matrix[k].sum()})" for k, name in enumerate(names)], fontsize=8)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", fontsize=8.5, color=INK)
    axes.set_ylabel("true (cases)", fontsize=8.5, color=INK)
    axes.set_title("Confusion: cases, and share of each true class", fontsize=9.5, color=INK, loc="left")


def _draw_reliability(axes: Axes, confidence: NDArray[np.float64], right: NDArray[np.bool_], ece: float | None) -> None:
    """Draw accuracy over confidence with binomial intervals."""
    means, shares, counts = reliability_curve(confidence, right)
    low, high = _wilson(shares, counts)
    style_axes(axes)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.vlines(means, low, high, color=PALETTE[0], linewidth=1.6, alpha=0.6, zorder=2)
    axes.plot(means, shares, "o-", color=PALETTE[0], markersize=5, linewidth=1.2, zorder=3)
    axes.plot(confidence, np.full(len(confidence), -0.03), "|", color=INK, markersize=5, alpha=0.35, clip_on=False)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(-0.06, 1.02)
    axes.set_xlabel("confidence: calibrated probability of the predicted class", fontsize=8.5, color=INK)
    axes.set_ylabel("share of correct predictions", fontsize=8.5, color=INK)
    error = "" if ece is None else f", calibration error {ece:.3f}"
    axes.set_title(f"Reliability{error}", fontsize=9.5, color=INK, loc="left")


def _wilson(
    share: NDArray[np.float64], count: NDArray[np.int64], *, z: float = 1.96
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of a share (Wilson 1927), within 0 … 1 also for few cases."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return centre - half, centre + half
