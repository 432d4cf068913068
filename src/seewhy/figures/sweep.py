"""Figure of a sweep: the objective of every setting with its spread over seeds, and how much each option matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from seewhy.figures.labels import join_title
from seewhy.figures.style import INK, PALETTE, add_captions, blank_figure, style_axes

__all__ = ["Setting", "measure_importance", "sweep_figure"]

SHOWN = 25
"""Settings in the figure, the best ones."""
BINS = 4
"""Groups of equal size into which many different numbers are put."""
FEW = 8
"""Most different values of an option that are compared one by one."""


@dataclass(frozen=True)
class Setting:
    """Members of a sweep that differ only by seed or fold.

    Attributes:
        name: the options in which settings differ.
        values: objective of each member.
    """

    name: str
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """Mean of the objective."""
        return float(np.mean(self.values))

    @property
    def standard_deviation(self) -> float:
        """Standard deviation of the objective over the members; NaN for one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


def measure_importance(options: Mapping[str, Sequence[str]], objective: Sequence[float]) -> dict[str, float]:
    """Measure which share of the objective's variance goes with each option alone, largest first.

    The share is epsilon squared (Kelley 1935): (between − (k − 1) · within / (n − k)) / total, of the sums of squares
    between and within the k values of the option over n members, at least 0. Unlike eta squared it is 0 on average for
    an option without effect. More than eight different numbers are put into four groups of equal size.

    Args:
        options: option → its value in every member.
        objective: [n] objective of every member.

    Returns:
        Option → share from 0 to 1; without options whose groups leave nothing to compare.

    Example:
        >>> from seewhy.figures.sweep import measure_importance
        >>> measure_importance({"lr": ["1", "1", "2", "2"], "x": ["a", "b", "a", "b"]}, [0.0, 0.0, 1.0, 1.0])
        {'lr': 1.0, 'x': 0.0}
    """
    y = np.asarray(objective, dtype=np.float64)
    total = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    if total == 0.0:
        return {}
    shares = {}
    for name, values in options.items():
        groups = _group_values(values)
        kinds = np.unique(groups)
        if not 1 < len(kinds) < len(y):
            continue
        within = sum(float(((y[groups == kind] - y[groups == kind].mean()) ** 2).sum()) for kind in kinds)
        between, noise = total - within, within / (len(y) - len(kinds))
        shares[name] = min(1.0, max(0.0, (between - (len(kinds) - 1) * noise) / total))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _group_values(values: Sequence[str]) -> np.ndarray:
    """Return the number of the group of each value: one group per value, or quarters of many numbers."""
    kinds = sorted(set(values))
    if len(kinds) > FEW:
        try:
            numbers = np.array([float(value) for value in values])
        except ValueError:
            pass
        else:
            ranks = np.searchsorted(np.sort(numbers), numbers, side="left")
            return ranks * BINS // len(numbers)
    return np.array([kinds.index(value) for value in values])


def sweep_figure(
    settings: Sequence[Setting],
    importance: Mapping[str, float],
    *,
    objective: str,
    higher: bool,
    title: str = "",
    phantom: bool = False,
) -> Figure:
    """Draw the best settings, best on top, with one dot per member, and the importance of the options.

    Args:
        settings: in any order.
        importance: see `measure_importance`; may be empty.
        objective: name of the objective.
        higher: whether a higher objective is better.
        title: of the sweep.
        phantom: whether the data are synthetic.
    """
    ranked = sorted(settings, key=lambda setting: -setting.mean if higher else setting.mean)[:SHOWN]
    height = 1.6 + 0.26 * max(len(ranked), len(importance), 3)
    figure = blank_figure(10.0 if importance else 7.5, height)
    ratios = [2.2, 1.0] if importance else [1.0]
    axes = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    left = style_axes(axes[0])
    for row, setting in enumerate(ranked):
        colour = PALETTE[1] if row == 0 else PALETTE[0]
        left.plot([min(setting.values), max(setting.values)], [row, row], color=colour, linewidth=1.5, alpha=0.5)
        left.plot(setting.values, [row] * len(setting.values), "o", color=colour, markersize=4, alpha=0.6, mew=0)
        if len(setting.values) > 1:
            left.plot([setting.mean], [row], "|", color=INK, markersize=11, mew=1.6)
    left.set_yticks(range(len(ranked)), [setting.name for setting in ranked])
    left.set_ylim(len(ranked) - 0.4, -0.6)
    left.set_xlabel(f"{objective} ({'higher' if higher else 'lower'} is better)", fontsize=9, color=INK)
    if importance:
        right = style_axes(axes[1])
        right.barh(range(len(importance)), list(importance.values()), color=PALETTE[2], height=0.6)
        right.set_yticks(range(len(importance)), list(importance))
        right.set_ylim(max(len(importance), 3) - 0.4, -0.6)
        right.set_xlim(0, 1)
        right.set_xlabel("share of the variance (ε²)", fontsize=9, color=INK)
    left.tick_params(axis="y", colors=INK)
    hidden = len(settings) - len(ranked)
    members = sum(len(setting.values) for setting in settings)
    foot = f"settings: {len(settings)}, complete members: {members}; dots: members" + ", bar: mean" * (
        members > len(settings)
    )
    foot += f"; {hidden} worse settings not shown" * bool(hidden)
    add_captions(figure, head=join_title(title, f"by {objective}", phantom=phantom), foot=foot)
    return figure
