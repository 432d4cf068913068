"""Figures of attribution shares of a run, by slice and by input, for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from seewhy.figures.labels import join_title, method_label
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes

__all__ = ["branch_shares", "slice_profile"]

BARS = (0.34, 1.75)
"""Width of a bar and smallest width of a class in inches."""


def slice_profile(
    profiles: Mapping[str, ArrayLike],
    *,
    numbers: Sequence[int],
    method: str,
    key_slices: Sequence[int] = (),
    title: str = "",
    phantom: bool = False,
) -> Figure:
    """Draw the share of attribution per slice: the mean and the middle half of the cases of every class.

    Args:
        profiles: class → [cases, D] shares of |attribution| per slice; each row sums to 1.
        numbers: [D] slice numbers in the scan.
        method: name of the explainer.
        key_slices: numbers of the slices with pictures, marked at the bottom.
        title: title of the figure.
        phantom: whether the data are synthetic, which the title then states.

    Raises:
        ValueError: no case, or a profile whose length is not that of `numbers`.
    """
    tables = {name: np.atleast_2d(np.asarray(rows, dtype=np.float64)) for name, rows in profiles.items()}
    tables = {name: rows for name, rows in tables.items() if rows.size}
    if not tables:
        raise ValueError("no case to draw a profile of")
    for name, rows in tables.items():
        if rows.shape[1] != len(numbers):
            raise ValueError(f"profiles of {name!r} have {rows.shape[1]} slices; expected {len(numbers)}")
    figure = blank_figure(7.5, 3.6)
    axes = style_axes(figure.subplots())
    for i, (name, rows) in enumerate(tables.items()):
        colour, cases = PALETTE[i % len(PALETTE)], f"{len(rows)} case{'' if len(rows) == 1 else 's'}"
        low, high = np.percentile(rows, (25, 75), axis=0)
        axes.fill_between(numbers, 100 * low, 100 * high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(numbers, 100 * rows.mean(axis=0), color=colour, linewidth=1.6, label=f"{name} ({cases})")
    axes.axhline(100 / len(numbers), color=GREY, linestyle=":", linewidth=1.1, label="spread evenly")
    if key_slices:
        axes.plot(key_slices, np.zeros(len(key_slices)), "^", color=INK, markersize=5, clip_on=False, zorder=5,
                  label="slices with pictures")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("slice in the scan", fontsize=8.5, color=INK)
    axes.set_ylabel("% of |attribution| in the slice", fontsize=8.5, color=INK)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    _head(figure, title, method, "line: mean · band: middle half of the cases", phantom=phantom)
    return figure


def branch_shares(
    shares: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    method: str,
    effects: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    title: str = "",
    phantom: bool = False,
) -> Figure:
    """Draw the share of attribution of each input per class, and the effect of leaving the input out.

    A map is doubtful if an input has a large share although leaving it out changes nothing, or the reverse.

    Args:
        shares: class → input → share (0 to 1) of each case.
        method: name of the explainer.
        effects: class → input → fall of the probability of the explained class without the input, of each case.
        title: title of the figure.
        phantom: whether the data are synthetic, which the title then states.
    """
    inputs = list(dict.fromkeys(name for inputs_shares in shares.values() for name in inputs_shares))
    if not inputs:
        raise ValueError("no shares to draw")
    count = 1 + (effects is not None)
    wide = max(BARS[1], BARS[0] * len(inputs) + 0.5) * len(shares)
    figure = blank_figure(max(5.5, wide + 2.4), 2.9 * count + 0.4)
    grid = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    percent = {name: {key: [100 * v for v in values] for key, values in own.items()} for name, own in shares.items()}
    _draw_groups(grid[0], percent, inputs)
    grid[0].axhline(100 / len(inputs), color=GREY, linestyle=":", linewidth=1.1, label="equal shares", zorder=1)
    every = [value for own in percent.values() for values in own.values() for value in values]
    signed = min(every) < 0  # Shapley values: an input may speak against the class
    grid[0].set_ylabel("% of the score, with sign" if signed else "% of all attribution", fontsize=8.5, color=INK)
    grid[0].set_ylim(1.05 * min(every) if signed else 0, max(102, 1.05 * max(every)))
    if signed:
        grid[0].axhline(0, color=GREY, linewidth=0.8)
    grid[0].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    if effects is not None:
        _draw_groups(grid[1], effects, inputs, order=list(shares))
        grid[1].axhline(0, color=GREY, linewidth=0.8)
        grid[1].set_ylabel("fall of the probability\nwithout the input", fontsize=8.5, color=INK)
    _head(figure, title, method, "bar: mean · line: middle half of the cases", phantom=phantom)
    return figure


def _draw_groups(
    axes: Axes,
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    inputs: Sequence[str],
    *,
    order: Sequence[str] | None = None,
) -> None:
    """Draw one group of bars per class, one colour per input."""
    style_axes(axes).grid(axis="x", visible=False)
    names, width = list(order or groups), 0.8 / len(inputs)
    for i, name in enumerate(inputs):
        colour = PALETTE[i % len(PALETTE)]
        axes.bar(0, 0, color=colour, label=name)
        for place, group in enumerate(names):
            values: NDArray[Any] = np.asarray(groups.get(group, {}).get(name, ()), dtype=np.float64)
            values = values[np.isfinite(values)]
            if not values.size:
                continue
            x = place + (i - (len(inputs) - 1) / 2) * width
            axes.bar(x, values.mean(), width * 0.9, color=colour, alpha=0.85, zorder=2)
            axes.plot([x, x], np.percentile(values, (25, 75)), color=INK, linewidth=1.2, zorder=3)
    counts = [max((len(groups.get(group, {}).get(name, ())) for name in inputs), default=0) for group in names]
    texts = [f"{name}\n{n} case{'' if n == 1 else 's'}" for name, n in zip(names, counts, strict=True)]
    axes.set_xticks(range(len(names)), texts, fontsize=8.5)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _head(figure: Figure, title: str, method: str, note: str, *, phantom: bool) -> None:
    add_captions(figure, head=join_title(title, method_label(method), phantom=phantom), foot=note)
