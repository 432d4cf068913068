"""Figure of a benchmark: the order of explanation methods without masks beside the order by the known evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from seewhy.figures.labels import join_title, method_label
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes

__all__ = ["benchmark_figure"]

FLOOR = "control_"
"""Prefix of the names of controls."""


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
