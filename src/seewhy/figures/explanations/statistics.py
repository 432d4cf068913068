"""Summary figure of all maps of a run: strength, confidence, signs and true labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from seewhy.figures.labels import join_title, method_label, parse_number
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, log_axis, style_axes

__all__ = ["attribution_summary"]


FOR, AGAINST = "#b2182b", "#2166ac"
"""Colours of evidence for and against a class, those of signed maps and of no class."""
SUREST = 1 - 1e-6
"""Largest probability on an axis that is stretched near 1."""
CROWDED = 0.9
"""Lowest confidence above which the axis of probabilities is stretched near 1."""


@dataclass(frozen=True)
class _MapRecord:
    """Row of `attribution_statistics.csv`."""

    method: str
    strength: float
    positive: float
    negative: float
    confidence: float | None
    label: str
    signed: bool = True
    """Whether the signs of its values mean something."""
    relative: float = math.nan
    """Strength divided by the median of the method, so that methods of different units share an axis."""


def attribution_summary(rows: Iterable[Mapping[str, Any]], *, title: str = "", phantom: bool = False) -> Figure:
    """Draw four panels: strength by method, confidence against strength, signs by method, strength by true label.

    Args:
        rows: rows of `attribution_statistics.csv` from `csv.DictReader`: `method`, `abs_mean`, and optionally
            `positive_ratio`, `negative_ratio`, `true_label`, `signed` (whether signs mean something), and the
            confidence as `probability` (or as `prediction` if that is a fraction). Rows without a number in `abs_mean`
            are ignored.
        title: title of the figure.
        phantom: whether the data are synthetic, which the title then states.

    Raises:
        ValueError: no row has a method and its `abs_mean`.
    """
    maps = _read_maps(rows)
    if not maps:
        raise ValueError("no row has a method and a number in abs_mean; there is nothing to summarise")
    methods = list(dict.fromkeys(item.method for item in maps))
    labels = sorted({item.label for item in maps if item.label}, key=_natural)
    figure = blank_figure(11.5, 2 * (2.2 + 0.24 * len(methods) + 0.05 * len(methods) * max(0, len(labels) - 3)))
    grid = figure.subplots(2, 2)
    _draw_strength(grid[0, 0], maps, methods)
    _draw_confidence(grid[0, 1], maps, methods)
    _draw_signs(grid[1, 0], maps, methods)
    _draw_labels(grid[1, 1], maps, methods, labels)
    return add_captions(figure, head=join_title(title, _maps(len(maps)), phantom=phantom))


def _read_maps(rows: Iterable[Mapping[str, Any]]) -> list[_MapRecord]:
    records = []
    for row in rows:
        strength = parse_number(row.get("abs_mean"))
        if row.get("method") and strength is not None:
            positive, negative = (parse_number(row.get(f"{sign}_ratio")) for sign in ("positive", "negative"))
            label = str(row["true_label"]) if row.get("true_label") not in (None, "") else ""
            records.append(
                _MapRecord(
                    str(row["method"]),
                    strength,
                    positive or 0.0,
                    negative or 0.0,
                    _confidence(row),
                    label,
                    bool(row.get("signed", True)),
                )
            )
    medians = {
        method: float(
            np.median([item.strength for item in records if item.method == method and item.strength > 0] or [1.0])
        )
        for method in {item.method for item in records}
    }
    return [replace(item, relative=item.strength / medians[item.method]) for item in records]


def _confidence(row: Mapping[str, Any]) -> float | None:
    """Probability of the explained class; a whole number in `prediction` is a class, not a confidence."""
    for name in ("probability", "prediction"):
        value = parse_number(row.get(name))
        if value is not None and 0.0 <= value <= 1.0 and (name == "probability" or value not in (0.0, 1.0)):
            return value
    return None


def _draw_strength(axes: Axes, maps: Sequence[_MapRecord], methods: Sequence[str]) -> None:
    """One line per method: every map a dot, quartiles a bar."""
    _start(axes, "Strength of the maps by method")
    for place, method in enumerate(methods):
        values = np.array([item.strength for item in maps if item.method == method])
        _draw_dots(axes, values, place, PALETTE[0], spread=0.28)
    empty = sum(item.strength <= 0 for item in maps)
    if empty < len(maps):
        log_axis(axes, "x")
    left_out = f" ({_maps(empty)} of zeros not drawn)" if empty else ""
    axes.set_xlabel("mean |attribution| of a map" + left_out, fontsize=8, color=INK)
    _name_methods(axes, methods)


def _draw_confidence(axes: Axes, maps: Sequence[_MapRecord], methods: Sequence[str]) -> None:
    """Draw confidence against strength; methods that do not scale with the score should show no correlation."""
    _start(axes, "Confidence and strength")
    marks = "os^Dv<>P"
    drawn = [item for item in maps if item.confidence is not None and item.relative > 0]
    if not drawn:
        _write_centred(axes, "no probability in the table")
        return
    for i, method in enumerate(methods):
        points = [(min(item.confidence or 0.0, SUREST), item.relative) for item in drawn if item.method == method]
        if not points:
            continue
        x, y = np.array(points, dtype=float).T
        text = f"{method_label(method)}, ρ {_spearman(x, y)}"  # noqa: RUF001
        axes.scatter(x, y, s=15, marker=marks[i // len(PALETTE) % len(marks)], color=PALETTE[i % len(PALETTE)],
                     alpha=0.7, linewidths=0, label=text)  # fmt: skip
    log_axis(axes, "y")
    confidences = [item.confidence for item in drawn if item.confidence is not None]
    if min(confidences) > CROWDED:
        axes.set_xscale("logit", one_half="0.5")  # otherwise all points lie on one line at 1
    rest = len(maps) - len(drawn)
    left_out = f" ({_maps(rest)} of zeros or without it not drawn)" if rest else ""
    axes.set_xlabel("probability of the explained class" + left_out, fontsize=8, color=INK)
    axes.set_ylabel("strength, in medians of the method's maps", fontsize=8, color=INK)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02), handletextpad=0.2,
                title="rank correlation", title_fontsize=7, alignment="left")  # fmt: skip


def _draw_signs(axes: Axes, maps: Sequence[_MapRecord], methods: Sequence[str]) -> None:
    """Draw the mean share of the points of a map that support the class, and of those against it."""
    _start(axes, "Share of points for and against the class")
    methods = [name for name in methods if any(item.signed for item in maps if item.method == name)]
    if not methods:
        _write_centred(axes, "the signs of these methods say nothing for or against a class")
        return
    for place, method in enumerate(methods):
        for sign, colour in ((1, FOR), (-1, AGAINST)):
            values = [item.positive if sign > 0 else item.negative for item in maps if item.method == method]
            axes.barh(place, sign * float(np.mean(values)), height=0.55, color=colour)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["100 %", "50 %", "0", "50 %", "100 %"])
    axes.set_xlabel("← against (negative) · for (positive) →", fontsize=8, color=INK)
    _name_methods(axes, methods)


def _draw_labels(axes: Axes, maps: Sequence[_MapRecord], methods: Sequence[str], labels: Sequence[str]) -> None:
    """Draw strength by true label for each method."""
    _start(axes, "Strength by true label")
    if not labels:
        _write_centred(axes, "no true_label in the table")
        return
    height = 0.8 / len(labels)
    for place, method in enumerate(methods):
        for i, label in enumerate(labels):
            values = [item.relative for item in maps if item.method == method and item.label == label]
            centre = place + (i - (len(labels) - 1) / 2) * height
            _draw_dots(axes, np.array(values), centre, PALETTE[i % len(PALETTE)], spread=0.3 * height)
    for i, label in enumerate(labels):
        count = sum(item.label == label for item in maps)
        axes.plot([], [], "o", color=PALETTE[i % len(PALETTE)], markersize=4, label=f"{label} ({_maps(count)})")
    if any(item.relative > 0 for item in maps):
        log_axis(axes, "x")
    axes.set_xlabel("strength, in medians of the method's maps", fontsize=8, color=INK)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02), handletextpad=0.2,
                title="true label", title_fontsize=7, alignment="left")  # fmt: skip
    _name_methods(axes, methods)


def _draw_dots(axes: Axes, values: np.ndarray[Any, Any], place: float, colour: str, *, spread: float) -> None:
    values = values[values > 0]
    if not values.size:
        return
    # A jitter with a fixed seed separates equal values and keeps the figure reproducible.
    jitter = np.random.default_rng(values.size).uniform(-spread, spread, values.size)
    axes.scatter(values, place + jitter, s=9, color=colour, alpha=0.45, linewidths=0, zorder=2)
    low, middle, high = np.percentile(values, (25, 50, 75))
    axes.plot([low, high], [place, place], color=colour, linewidth=2.4, zorder=3, solid_capstyle="butt")
    axes.plot(middle, place, "D", markersize=5, color=colour, markeredgecolor="white", zorder=4)


def _start(axes: Axes, title: str) -> None:
    style_axes(axes).set_title(title, fontsize=9.5, color=INK, loc="left")


def _name_methods(axes: Axes, methods: Sequence[str]) -> None:
    axes.set_yticks(range(len(methods)), [method_label(name) for name in methods], fontsize=8.5)
    axes.set_ylim(len(methods) - 0.4, -0.6)


def _maps(count: int) -> str:
    return f"{count} map{'' if count == 1 else 's'}"


def _natural(label: str) -> tuple[float, str]:
    """Sort key: numbers by value, then words."""
    number = parse_number(label)
    return (math.inf if number is None else number, label)


def _write_centred(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _spearman(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> str:
    """Rank correlation with mean ranks for ties, or a dash if it is undefined."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return "–"  # noqa: RUF001
    return f"{spearmanr(x, y).statistic:.2f}".replace("-", "\N{MINUS SIGN}")
