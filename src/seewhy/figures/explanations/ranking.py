"""Figures of orders of explanation methods: every score with its interval and floor, and the orders of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seewhy.figures.labels import join_title, method_label, parse_number
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, log_axis, style_axes

__all__ = ["MethodRow", "Ranking", "benchmark_figure", "ranking_figure", "read_ranking"]

ACROSS = 5
"""Largest number of panels in a row."""
CROSS = "\N{MULTIPLICATION SIGN}"
FLOOR = "control_"
"""Prefix of the names of floors."""
SECONDS = "seconds"
"""Prefix of scores on a logarithmic axis, which do not count in the ranking."""


@dataclass(frozen=True)
class MethodRow:
    """Score of a method."""

    method: str
    score: str
    """Printed name of the score."""
    value: float
    low: float | None
    high: float | None
    floor: float | None
    """Value of chance, or of a model that learned nothing."""
    higher: bool
    """Whether higher is better."""
    untrained: float | None = None
    """Value of the same method on re-initialised networks, a second floor."""
    untrained_low: float | None = None
    untrained_high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the value and its whole interval are better than the floor and than re-initialised networks."""
        worst = self.low if self.higher else self.high
        worst = self.value if worst is None else worst
        floors = [floor for floor in (self.floor, self.untrained) if floor is not None]
        return all(worst > floor if self.higher else worst < floor for floor in floors)


@dataclass(frozen=True)
class Ranking:
    """Scores of ranked methods."""

    methods: list[str]
    """Best first, by mean rank over the scores except seconds."""
    scores: list[str]
    """In order of their first occurrence."""
    entries: list[MethodRow]

    def of(self, score: str) -> list[MethodRow]:
        """Entries of one score, best method first."""
        entries = {entry.method: entry for entry in self.entries if entry.score == score}
        return [entries[method] for method in self.methods if method in entries]


def ranking_figure(
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str = "",
    note: str = "",
    meanings: Mapping[str, str] | None = None,
    phantom: bool = False,
) -> Figure:
    """Draw one panel per score and one row per method, best method first.

    Values that are not clearly better than their floors, with the whole interval if there is one, are hollow. Methods
    are ordered by mean rank over the scores except seconds.

    Args:
        rows: `method`, `score` (printed name), `value`, and optionally `low`, `high` (interval), `floor` (value of
            chance), `untrained` (value of the same method on re-initialised networks, with `untrained_low` and
            `untrained_high`) and `higher_is_better`; numbers or CSV text. Rows without a value are ignored.
        title: title of the figure.
        note: data behind the numbers, e.g. "24 patients, 95 % bootstrap intervals by patient"; at the bottom.
        meanings: printed name of a score → its meaning in a few words, one line each at the bottom.
        phantom: whether the data are synthetic, which the title then states.

    Raises:
        ValueError: no row has a value.

    Example:
        >>> rows = [
        ...     {"method": "grad_cam", "score": "energy", "value": 0.8, "low": 0.7, "high": 0.9, "floor": 0.2},
        ...     {"method": "saliency", "score": "energy", "value": 0.3, "low": 0.1, "high": 0.5, "floor": 0.2},
        ... ]
        >>> figure = ranking_figure(rows, title="demo")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['Grad-CAM', 'saliency']
    """
    ranking = read_ranking(rows)
    methods, scores = ranking.methods, ranking.scores
    if not methods:
        raise ValueError("no row has a method, a score and a value; there is nothing to rank")
    lines = math.ceil(len(scores) / ACROSS)
    columns = math.ceil(len(scores) / lines)
    figure = blank_figure(1.7 + 2.5 * columns, 0.8 + lines * (1.0 + 0.26 * len(methods)))
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, score in zip(grid.ravel(), scores, strict=False):
        _draw(axes, score, methods, ranking.of(score))
    for axes in grid.ravel()[len(scores) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(methods)), [method_label(name) for name in methods], fontsize=8.5)
        for label, name in zip(axes.get_yticklabels(), methods, strict=True):
            label.set_color(GREY if name.startswith(FLOOR) else INK)
    grid[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    notes = [
        "order: mean rank over the scores", "dotted: floor", "hollow: not clearly better than its floor",
        "grey squares: floors, which do not use the network",
    ]  # fmt: skip
    if any(entry.untrained is not None for entry in ranking.entries):
        notes.append(f"{CROSS}: the same method, re-initialised networks")
    notes.append(note)
    lines_below = [f"{score}: {meanings[score]}" for score in scores if score in (meanings or {})]  # type: ignore[index]
    foot = "\n".join([" · ".join(part for part in notes if part), *lines_below])
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.16 * len(lines_below))
    return add_captions(figure, head=join_title(title, phantom=phantom), foot=foot)


def read_ranking(rows: Iterable[Mapping[str, Any]]) -> Ranking:
    """Read scores and rank the methods.

    Args:
        rows: see `ranking_figure`.
    """
    entries = [entry for entry in map(_read_row, rows) if entry is not None]
    return Ranking(_rank_methods(entries), list(dict.fromkeys(entry.score for entry in entries)), entries)


def _read_row(row: Mapping[str, Any]) -> MethodRow | None:
    value = parse_number(row.get("value"))
    if value is None or not row.get("method") or not row.get("score"):
        return None
    low, high, floor = (parse_number(row.get(name)) for name in ("low", "high", "floor"))
    untrained = [parse_number(row.get(name)) for name in ("untrained", "untrained_low", "untrained_high")]
    higher = str(row.get("higher_is_better", True)).strip().lower() not in ("false", "0", "no")
    return MethodRow(str(row["method"]), str(row["score"]), value, low, high, floor, higher, *untrained)


def _rank_methods(entries: Sequence[MethodRow]) -> list[str]:
    """Methods by mean rank over the scores except times; ties share a rank, and methods without a rank are last."""
    ranks: dict[str, list[float]] = {entry.method: [] for entry in entries}
    for score in dict.fromkeys(entry.score for entry in entries if not entry.score.startswith(SECONDS)):
        compared = [entry for entry in entries if entry.score == score]
        if len(compared) < 2:
            continue
        goods = [entry.value if entry.higher else -entry.value for entry in compared]
        for entry, good in zip(compared, goods, strict=True):
            better, same = sum(other > good for other in goods), sum(other == good for other in goods)
            # Relative to the number of methods, so that all scores have equal weight.
            ranks[entry.method].append((better + (same - 1) / 2) / (len(compared) - 1))
    means = {name: sum(values) / len(values) if values else math.inf for name, values in ranks.items()}
    return sorted(ranks, key=lambda name: means[name])


def _draw(axes: Axes, score: str, methods: Sequence[str], entries: Sequence[MethodRow]) -> None:
    style_axes(axes).set_title(score, fontsize=9.5, color=INK, loc="left")
    for entry in entries:
        place = methods.index(entry.method)
        is_floor = entry.method.startswith(FLOOR)
        clear = entry.clear and not is_floor
        colour = PALETTE[0] if clear else GREY
        if entry.untrained is not None:
            axes.plot(entry.untrained, place, "x", markersize=5, color=INK, zorder=3, markeredgewidth=1.1)
        if entry.low is not None and entry.high is not None:
            axes.plot([entry.low, entry.high], [place, place], color=colour, linewidth=2.0, zorder=3,
                      solid_capstyle="butt")  # fmt: skip
        axes.plot(entry.value, place, "s" if is_floor else "o", markersize=5 if is_floor else 6, color=colour,
                  zorder=4, markerfacecolor=colour if clear or is_floor else "white", markeredgewidth=1.4)  # fmt: skip
    _draw_floors(axes, methods, entries)
    for place in set(range(len(methods))) - {methods.index(entry.method) for entry in entries}:
        axes.text(0.02, place, "–", transform=axes.get_yaxis_transform(), va="center", color=GREY)  # noqa: RUF001
    axes.margins(x=0.08)
    if score.startswith(SECONDS) and all(min(entry.value, entry.low or entry.value) > 0 for entry in entries):
        log_axis(axes, "x")
    direction = "higher is better →" if all(entry.higher for entry in entries) else "← lower is better"
    axes.set_xlabel(direction, fontsize=7.5, color=GREY)


def _draw_floors(axes: Axes, methods: Sequence[str], entries: Sequence[MethodRow]) -> None:
    """Draw one line if all methods have the same floor, else a short line per method."""
    floors = {entry.method: entry.floor for entry in entries if entry.floor is not None}
    if len(set(floors.values())) == 1:
        axes.axvline(next(iter(floors.values())), color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        return
    for method, floor in floors.items():
        place = methods.index(method)
        axes.plot([floor, floor], [place - 0.38, place + 0.38], color=GREY, linestyle=":", linewidth=1.4, zorder=2)


def benchmark_figure(
    methods: Sequence[tuple[str, float, float, bool]],
    agreement: Mapping[str, tuple[float, float, float]],
    by_phantom: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Draw both orders of the methods, and how orders without masks agree with the known evidence.

    Args:
        methods: name, mean rank without masks, mean rank by the known evidence (from 0, last, to 1, first), and whether
            it passes the verdicts.
        agreement: order without masks → Spearman's correlation with the lower and upper bound of its interval.
        by_phantom: order → phantom → correlation.

    Example:
        >>> figure = benchmark_figure([("grad_cam", 0.9, 0.8, True), ("control_edges", 0.1, 0.3, False)], {}, {})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['Grad-CAM', 'floor: edges']
    """
    ranked = sorted(methods, key=lambda method: -method[2] if math.isfinite(method[2]) else 1.0)
    figure = blank_figure(11.0, 1.9 + 0.24 * max(len(ranked), 6))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1.0])
    style_axes(left)
    for row, (name, order, truth, passes) in enumerate(ranked):
        colour = GREY if name.startswith(FLOOR) else PALETTE[0] if passes else PALETTE[1]
        left.plot([order, truth], [row, row], color=colour, linewidth=1.2, alpha=0.5)
        left.plot([truth], [row], "o", color=colour, markersize=7)
        left.plot([order], [row], "o", color=colour, markersize=7, markerfacecolor="white", markeredgewidth=1.4)
    left.set_yticks(range(len(ranked)), [method_label(name) for name, *_ in ranked])
    left.tick_params(axis="y", colors=INK)
    left.set_ylim(len(ranked) - 0.4, -0.6)
    left.set_xlim(-0.04, 1.04)
    left.set_xlabel("mean rank over the members (1: always first)", fontsize=9, color=INK)
    style_axes(right)
    for row, (name, (value, low, high)) in enumerate(agreement.items()):
        if math.isfinite(low):
            right.plot([low, high], [row, row], color=INK, linewidth=1.6)
        right.plot([value], [row], "o", color=INK, markersize=7, zorder=3)
        for number, (phantom, own) in enumerate(by_phantom.get(name, {}).items()):
            marker = {"marker": "^sDv"[number % 4], "color": PALETTE[(number + 2) % len(PALETTE)]}
            label = phantom if row == 0 else None
            right.plot([own], [row + 0.22], linestyle="", markersize=5, label=label, **marker)
    right.axvline(0.8, color=GREY, linestyle=":", linewidth=1.2)
    right.set_yticks(range(len(agreement)), list(agreement))
    right.tick_params(axis="y", colors=INK)
    right.set_ylim(max(len(agreement), 1) - 0.3, -0.6)
    right.set_xlim(-1.05, 1.05)
    right.set_xlabel("Spearman with the order by the known evidence", fontsize=9, color=INK)
    if by_phantom:
        right.legend(fontsize=8, frameon=False, loc="upper left", title="single phantoms", title_fontsize=8)
    foot = (
        "left: filled, by the known evidence (AUPRC); open, without masks; blue: passes the verdicts, "
        "orange: does not, "
        "grey: controls, which do not use the network\n"
        "right: black, all members with the 95 % interval over phantoms and seeds; dotted: the goal of .8"
    )
    head = join_title("Explanation methods", "order without masks and by the known evidence", phantom=True)
    return add_captions(figure, head=head, foot=foot)
