"""Methods against the floors and the ceiling: a dot per patient, the mean and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seewhy.figures.labels import Score, is_floor, label_of, lower_is_better, measured, methods, note
from seewhy.figures.style import GREY, INK, PALETTE, bare, blank_figure

__all__ = ["scores_figure"]

DISTANCES = ("hd95_mm", "hd95_px", "fp_area")


def scores_figure(
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, float],
    *,
    prefix: str = "",
    measures: tuple[str, ...] = ("dice", "auprc"),
    ceiling: Mapping[str, float] | None = None,
    title: str = "",
    phantom: bool = False,
) -> Figure:
    """Draw one panel per measure and one line per method, floors below in grey.

    Args:
        rows: one per patient and map, as `PatientScores.rows` gives them (`map`, and measures or None).
        results: their means and intervals, as `PatientScores.compute` gives them.
        prefix: of the names in `results`, e.g. "test/".
        measures: what to draw, as far as any method has it.
        ceiling: measure → what a model trained with masks reaches, as a dashed line.
        title: above everything.
        phantom: whether the data are synthetic; the title says so.
    """
    scores = {name: own for name, own in methods(results, prefix=prefix).items() if set(own) & set(measures)}
    shown = measured(scores, measures)
    if not shown:
        raise ValueError(f"no method has any of {', '.join(measures)}; results hold {', '.join(results) or 'nothing'}")
    names = list(scores)
    figure = blank_figure(1.6 + 3.1 * len(shown), 1.3 + 0.34 * len(names))
    for i, (axes, measure) in enumerate(
        zip(figure.subplots(1, len(shown), squeeze=False, sharey=True)[0], shown, strict=True)
    ):
        _draw_measure(axes, measure, names, scores, rows, ceiling)
        if i == 0:
            axes.set_yticks(range(len(names)), [label_of(name) for name in names], fontsize=9)
            for tick, name in zip(axes.get_yticklabels(), names, strict=True):
                tick.set_color(GREY if is_floor(name) else INK)
    head = " · ".join(part for part in (title, "phantom data" if phantom else "") if part)
    figure.suptitle(head, fontsize=11, color=INK, x=0.01, ha="left")
    figure.supxlabel(note(results, prefix=prefix, phantom=phantom), fontsize=8, color=GREY, x=0.01, ha="left")
    return figure


def _draw_measure(
    axes: Axes,
    measure: str,
    names: list[str],
    scores: Mapping[str, Mapping[str, Score]],
    rows: Sequence[Mapping[str, Any]],
    ceiling: Mapping[str, float] | None,
) -> None:
    bare(axes).set_title(label_of(measure), fontsize=9.5, color=INK)
    for place, name in enumerate(names):
        colour = GREY if is_floor(name) else PALETTE[0]
        values = [row[measure] for row in rows if row["map"] == name and row.get(measure) is not None]
        # A fixed jitter keeps equal scores apart and the figure the same every time.
        jitter = np.random.default_rng(place).uniform(-0.2, 0.2, len(values))
        axes.scatter(values, place + jitter, s=11, color=colour, alpha=0.4, linewidths=0, zorder=2)
        if measure in scores[name]:
            _draw_mean(axes, place, scores[name][measure], colour)
    axes.set_ylim(len(names) - 0.3, -0.9)
    if measure in DISTANCES:
        axes.set_xlim(left=0)
    else:
        axes.set_xlim(-0.02, 1.02)
    floors = [scores[name][measure].value for name in names if is_floor(name) and measure in scores[name]]
    if floors:
        best = min(floors) if lower_is_better(measure) else max(floors)
        _draw_line(axes, best, "best floor", style=":", colour=GREY, top=True)
    if ceiling and measure in ceiling:
        _draw_line(axes, ceiling[measure], "ceiling", style="--", colour=PALETTE[2], top=False)


def _draw_mean(axes: Axes, place: int, score: Score, colour: str) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2.2, zorder=3, solid_capstyle="butt")
    axes.plot(score.value, place, marker="D", markersize=6, color=colour, markeredgecolor="white", zorder=4)


def _draw_line(axes: Axes, value: float, text: str, *, style: str, colour: str, top: bool) -> None:
    """A vertical line with its name at one end, on the side where there is more room."""
    axes.axvline(value, color=colour, linewidth=1.1, linestyle=style, zorder=1)
    low, high = axes.get_xlim()
    left = value > (low + high) / 2
    axes.annotate(
        text,
        (value, 1 if top else 0),
        (-3 if left else 3, -2 if top else 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top" if top else "bottom",
        fontsize=7.5,
        color=colour,
    )
