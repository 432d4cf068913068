"""Training curves: all logged metrics over the training steps, in panels of the same kind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seewhy.figures.labels import CERTAINTY, CLASSIFICATION, label_of, parse_number
from seewhy.figures.style import GREY, INK, PALETTE, blank_figure, style_axes
from seewhy.wording import LESION, TargetWords

__all__ = ["training_curves"]

Curve = list[tuple[float, float]]
NOT_CURVES = ("step", "epoch")
LEFT_OUT = (
    "iou", "hd95_slices_mm", "hd95_slices_px", "hd95_mm", "hd95_px", "fp_area", "iou_positive", "dice_positive",
    "auprc_positive", "average_precision", "nll",
)  # fmt: skip
"""Measures that are redundant in the curves, or shown only in the results table."""
OF_CLASSES = ("precision", "f1", "auroc")
"""Scores `<score>/<class>` of single classes that are not drawn; only their recall is."""
COMPARED = {"translation": "against the truth", "identity": "against the truth", "cycle": "of the cycle"}
"""Comparison of translated scans → heading of its panels."""
CONSTANT = ("patients", "patients_with_lesion", "lesion_share", "samples", "cases")


def training_curves(
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str = "",
    marks: Mapping[str, float] | None = None,
    words: TargetWords = LESION,
) -> Figure:
    """Draw the rows of Lightning's `metrics.csv` against the training step.

    Args:
        rows: rows of `csv.DictReader` or `DataFrame.to_dict("records")`: `step` and any number of columns. Empty cells
            and NaN are gaps. Floors, interval bounds and test results are not drawn.
        title: title of the figure.
        marks: name → step of events to mark, e.g. the start of a phase.
        words: of the data set.

    Raises:
        ValueError: no column is a curve.

    Example:
        >>> rows = [{"step": step, "train/loss": 1 / (1 + step), "val/refined/dice": step / 10} for step in range(5)]
        >>> figure = training_curves(rows, title="demo")
        >>> [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
        ['train/loss', 'val/refined/dice']
    """
    panels = _panels(_curves(rows))
    if not panels:
        raise ValueError("metrics.csv has no curve; expected a column `step` and at least one logged metric")
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = blank_figure(4.2 * columns, 2.7 * lines + 0.4)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, curves) in zip(grid, panels.items(), strict=False):
        _draw(axes, name, curves, marks or {}, words)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    return figure


def _curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for row in rows:
        step = parse_number(row.get("step"))
        for name, cell in row.items():
            value = parse_number(cell)
            if step is not None and value is not None and _is_curve(str(name)):
                curves.setdefault(str(name), []).append((step, value))
    # Lightning can log both `name_step` and `name_epoch`; the mean of the epoch is less noisy.
    return {
        name.removesuffix("_epoch").removesuffix("_step"): curve
        for name, curve in curves.items()
        if not (name.endswith("_step") and f"{name.removesuffix('_step')}_epoch" in curves)
    }


def _is_curve(name: str) -> bool:
    path, _, last = name.rpartition("/")
    return not (
        name in NOT_CURVES
        or name.startswith("test/")
        or "floor_" in name
        or last.endswith(("_low", "_high"))
        or last in LEFT_OUT
        or last in CONSTANT
        or path.rpartition("/")[2] in OF_CLASSES
    )


def _panels(curves: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Group curves that share an axis: losses, scores, calibration, one panel per map score, learning rate, others."""
    panels: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        path, _, last = name.rpartition("/")
        if "loss" in last:
            panel = "loss"
        elif path.endswith("/recall"):
            panel = "recall by class"
        elif last in CERTAINTY:
            panel = "calibration"
        elif last in CLASSIFICATION and last != "mae":
            panel = "classification"
        elif path.rpartition("/")[2] in COMPARED:
            panel = f"{last} {COMPARED[path.rpartition('/')[2]]}"
        elif name.startswith("lr"):
            panel = "learning rate"
        else:
            panel = last
        panels.setdefault(panel, {})[name] = curve
    first = ["loss", "classification", "dice", "auprc"]
    order = [name for name in first if name in panels] + [name for name in panels if name not in first]
    return {name: panels[name] for name in order}


def _draw(axes: Axes, name: str, curves: Mapping[str, Curve], marks: Mapping[str, float], words: TargetWords) -> None:
    heading = label_of(name, words) if len(curves) > 1 else next(iter(curves))
    style_axes(axes).set_title(heading, fontsize=9.5, color=INK, loc="left")
    for i, (label, curve) in enumerate(sorted(curves.items())):
        steps, values = zip(*sorted(curve), strict=True)
        colour, style = PALETTE[i % len(PALETTE)], "-" if i < len(PALETTE) else "--"
        marker = "o" if len(curve) < 20 else None
        axes.plot(steps, values, style, color=colour, linewidth=1.3, marker=marker, markersize=3, label=label)
    heights = [value for curve in curves.values() for _, value in curve]
    if name == "loss" and min(heights) > 0 and max(heights) > 50 * min(heights):
        axes.set_yscale("log")
    for event, step in marks.items():
        axes.axvline(step, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(event, (step, 1), (2, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                      fontsize=7, color=GREY, va="top", rotation=90)  # fmt: skip
    axes.set_xlabel("step", fontsize=8, color=INK)
    if len(curves) > 1:
        axes.legend(fontsize=7, frameon=False, loc="best")
