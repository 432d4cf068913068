"""Training curves: all logged metrics over the training steps, in panels of the same kind."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seewhy.figures.labels import CERTAINTY, CLASSIFICATION, label_of, parse_number
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes
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
RATES = "learning rate"
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
        marks: name → step of events to mark, e.g. the chosen checkpoint. The start of a loss that joins later is marked
            by itself.
        words: of the data set.

    Raises:
        ValueError: no column is a curve.

    Example:
        >>> rows = [{"step": step, "train/loss": 1 / (1 + step), "val/refined/dice": step / 10} for step in range(5)]
        >>> figure = training_curves(rows, title="demo")
        >>> [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
        ['loss · training', 'Dice · refined, validation']
    """
    curves = _curves(rows)
    panels = _panels(curves)
    starts, events = _find_starts(curves), dict(marks or {})
    if not panels:
        raise ValueError("metrics.csv has no curve; expected a column `step` and at least one logged metric")
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = blank_figure(4.2 * columns, 3.0 * lines + 0.4)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (name, group) in zip(grid, panels.items(), strict=False):
        _draw(axes, name, group, words)
        for steps, style in ((starts, ":"), (events, "--")):
            for step in steps.values():
                axes.axvline(step, color=GREY, linewidth=0.9, linestyle=style)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    lines_of = (("dotted", starts), ("dashed", events))
    notes = [f"{style} line: {event}, step {step:g}" for style, group in lines_of for event, step in group.items()]
    return add_captions(figure, head=title, foot=" · ".join(notes))


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
            panel = RATES
        else:
            panel = last
        panels.setdefault(panel, {})[name] = curve
    first = ["loss", "classification", "dice", "auprc"]
    order = [name for name in first if name in panels] + [name for name in panels if name not in first]
    return {name: panels[name] for name in order}


def _find_starts(curves: Mapping[str, Curve]) -> dict[str, float]:
    """Steps at which losses of the training begin that were not there from the start, as phases of a training do."""
    losses = {name: min(step for step, _ in curve) for name, curve in curves.items() if _is_training_loss(name)}
    first = min(losses.values(), default=0.0)
    last = max((step for curve in curves.values() for step, _ in curve), default=0.0)
    return {
        f"{_describe(name).partition(',')[0]} begins": step
        for name, step in losses.items()
        if step - first > 0.02 * (last - first)
    }


def _is_training_loss(name: str) -> bool:
    return name.startswith("train/") and name.endswith("loss")


PARTS = {"train": "training", "val": "validation"}
GROUP = re.compile(r"lr-(?P<optimizer>\w+)(?:/pg(?P<group>\d+))?.*")


def _describe(name: str, words: TargetWords = LESION) -> str:
    """Printed name of a curve: what was measured, of what, and on which part of the data.

    Example:
        >>> _describe("val/cam/dice"), _describe("train/loss"), _describe("lr-AdamW/pg2")
        ('Dice, CAM, validation', 'loss, training', 'AdamW, group 2')
    """
    match = GROUP.fullmatch(name)
    if match is not None:
        return match["optimizer"] + (f", group {match['group']}" if match["group"] else "")
    *path, last = name.split("/")
    part = PARTS.get(path[0], path[0]) if path else ""
    labels = [label_of(one, words) for one in (last, *path[1:])]
    return ", ".join(word for word in (*labels, part) if word)


def _join_equal(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Curves by their printed names; equal ones, e.g. the rates of groups of parameters, as one."""
    names: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for name, curve in sorted(curves.items()):
        names.setdefault(tuple(sorted(curve)), []).append(_describe(name))
    return {
        " and ".join([several[0], *(name.rpartition(", ")[2] for name in several[1:])]): list(curve)
        for curve, several in names.items()
    }


def _draw(axes: Axes, name: str, curves: Mapping[str, Curve], words: TargetWords) -> None:
    drawn = _join_equal(curves) if name == RATES else {_describe(key, words): curves[key] for key in sorted(curves)}
    heading = label_of(name, words)
    if len(drawn) == 1:
        (only,) = drawn
        heading = " · ".join([heading, only.removeprefix(f"{heading}, ")])
    style_axes(axes).set_title(heading, fontsize=9.5, color=INK, loc="left")
    for i, (label, curve) in enumerate(drawn.items()):
        steps, values = zip(*sorted(curve), strict=True)
        colour, style = PALETTE[i % len(PALETTE)], "-" if i < len(PALETTE) else "--"
        marker = "o" if len(curve) < 20 else None
        axes.plot(steps, values, style, color=colour, linewidth=1.3, marker=marker, markersize=3, label=label)
    heights = [value for curve in curves.values() for _, value in curve]
    if name == "loss" and min(heights) > 0 and max(heights) > 50 * min(heights):
        axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=8, color=INK)
    if len(drawn) > 1:
        # Below the panel, where no line is.
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2)
