"""Results of all methods with their floors: terminal table, figure with a dot per patient, and report tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from seewhy.figures.glossary import GLOSSARY
from seewhy.figures.labels import (
    CASES,
    CLASSIFICATION,
    FALSE_POSITIVES,
    MEASURES,
    NONE,
    SEGMENTATION,
    Score,
    describe_data,
    is_floor,
    join_title,
    label_of,
    lower_is_better,
    present_measures,
    scores_by_method,
)
from seewhy.figures.report.blocks import Block, Definitions, ReportTable
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes
from seewhy.wording import LESION, TargetWords

__all__ = ["explain_measures", "results_blocks", "results_table", "scores_figure"]

TableKind = Literal["segmentation", "false positives", "classification"]
"""Groups of measures in the terminal."""
SHORT = {
    "dice_positive": "Dice +",
    "auprc": "AUPRC",
    "hd95_slices_mm": "HD95 mm",
    "hd95_slices_px": "HD95 px",
    "hd95_mm": "3D HD95 mm",
    "hd95_px": "3D HD95 voxels",
    "lesion_dice": "regions",
    "fp_volume_ml": "mL",
    "fp_slices": "slices",
    "healthy_hit": "patients",
    "balanced_accuracy": "balanced",
    "mae": "MAE",
    "ece": "ECE",
}
"""Column headings that fit into 80 columns; the caption explains them."""
WITH_INTERVAL = ("dice", "lesion_dice")
NO_RIVAL = "ideal"
"""Row with the best possible values, which does not compete."""
TEST = "test/"
"""Prefix of the scores of the test."""


def results_table(
    results: Mapping[str, float],
    *,
    phantom: bool = False,
    kind: TableKind = "segmentation",
    words: TargetWords = LESION,
) -> Table:
    """Terminal table with one row per method, floors below a rule; best values bold, and red if a floor has them.

    Args:
        results: flat names of scores of the test to values, see `seewhy.figures.labels.scores_by_method`.
        phantom: whether the data are synthetic, which the caption then states.
        kind: `segmentation` (agreement of the maps with the annotation), `false positives` (of the maps, also in
            healthy patients), or `classification` (AUROC, accuracy and so on of the samples).
        words: of the data set.
    """
    wanted: tuple[str, ...] = FALSE_POSITIVES if kind == "false positives" else SEGMENTATION
    if kind == "classification":
        wanted = CASES if f"{TEST}balanced_accuracy" in results else CLASSIFICATION
    scores = {name: own for name, own in scores_by_method(results, prefix=TEST).items() if set(own) & set(wanted)}
    columns = present_measures(scores, wanted)
    caption = _caption(results, columns, phantom=phantom, words=words)
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for measure in columns:
        arrow = " ↓" if lower_is_better(measure) else ""
        table.add_column(SHORT.get(measure, label_of(measure, words)) + arrow, justify="right", no_wrap=True)
        if measure in WITH_INTERVAL:
            table.add_column("95 %", justify="right", no_wrap=True)
    names = list(scores)
    for i, name in enumerate(names):
        following = names[i + 1] if i + 1 < len(names) else name
        table.add_row(
            label_of(name),
            *[cell for measure in columns for cell in _cells(scores, name, measure)],
            end_section=is_floor(name) != is_floor(following),
            style="dim" if is_floor(name) else None,
        )
    return table


def _cells(scores: Mapping[str, Mapping[str, Score]], method: str, measure: str) -> list[str]:
    """The mean (bold if it is the best, red if that is a floor), and the interval if its column is shown."""
    score = scores[method].get(measure)
    interval = [score.bounds(measure) if score else NONE] if measure in WITH_INTERVAL else []
    if score is None:
        return [NONE, *interval]
    text = score.text(measure, interval=False)
    rivals = [own[measure].value for name, own in scores.items() if measure in own and name != NO_RIVAL]
    best = (min if lower_is_better(measure) else max)(rivals)
    if method != NO_RIVAL and score.value == best:
        text = f"[not dim bold red]{text}[/]" if is_floor(method) else f"[bold]{text}[/]"
    return [text, *interval]


def _caption(results: Mapping[str, float], columns: tuple[str, ...], *, phantom: bool, words: TargetWords) -> str:
    lines = [describe_data(results, prefix=TEST, phantom=phantom, samples="auroc" in columns, words=words)]
    if "balanced_accuracy" in columns:
        grades = "; MAE: in grades" if "mae" in columns else ""
        lines.append(f"balanced: mean recall of the classes{grades}; ECE: calibration error")
    if "dice_positive" in columns:
        lines.append(words.fill("Dice +: on slices that show {a_target}"))
    if "lesion_dice" in columns:
        lines.append("mL: volume predicted outside the annotation")
        lines.append(words.fill("regions: {target}-wise Dice, false regions count 0; over all patients"))
    if "fp_slices" in columns:
        lines.append(words.fill("slices, patients: share of the {absent} ones with any predicted pixel"))
    if any(measure.startswith("hd95_slices") for measure in columns):
        lines.append(words.fill("HD95: in 2D, mean over {target} slices"))
    return "\n".join(line for line in lines if line).replace("PHANTOM", "[bold yellow]PHANTOM[/]")


def scores_figure(
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, float],
    *,
    prefix: str = "",
    measures: tuple[str, ...] = ("dice", "auprc"),
    title: str = "",
    phantom: bool = False,
    words: TargetWords = LESION,
) -> Figure:
    """Draw one panel per measure and one row per method: a dot per patient, the mean and its interval; floors in grey.

    Args:
        rows: one per patient and map, as returned by `PatientScores.rows` (`map`, and measures or None).
        results: means and intervals, as returned by `PatientScores.compute`.
        prefix: prefix of the names in `results`, e.g. "test/".
        measures: measures to draw, as far as any method defines them.
        title: title of the figure.
        phantom: whether the data are synthetic, which the title then states.
        words: of the data set.
    """
    scores = {name: own for name, own in scores_by_method(results, prefix=prefix).items() if set(own) & set(measures)}
    shown = present_measures(scores, measures)
    if not shown:
        raise ValueError(f"no method has any of {', '.join(measures)}; results hold {', '.join(results) or 'nothing'}")
    names = list(scores)
    figure = blank_figure(1.6 + 3.1 * len(shown), 1.3 + 0.34 * len(names))
    for i, (axes, measure) in enumerate(
        zip(figure.subplots(1, len(shown), squeeze=False, sharey=True)[0], shown, strict=True)
    ):
        _draw_measure(axes, measure, names, scores, rows, words)
        if i == 0:
            axes.set_yticks(range(len(names)), [label_of(name) for name in names], fontsize=9)
            for tick, name in zip(axes.get_yticklabels(), names, strict=True):
                tick.set_color(GREY if is_floor(name) else INK)
    note = describe_data(results, prefix=prefix, phantom=phantom, words=words)
    return add_captions(figure, head=join_title(title, phantom=phantom), foot=note)


def _draw_measure(
    axes: Axes,
    measure: str,
    names: list[str],
    scores: Mapping[str, Mapping[str, Score]],
    rows: Sequence[Mapping[str, Any]],
    words: TargetWords,
) -> None:
    style_axes(axes).set_title(label_of(measure, words), fontsize=9.5, color=INK)
    for place, name in enumerate(names):
        colour = GREY if is_floor(name) else PALETTE[0]
        values = [row[measure] for row in rows if row["map"] == name and row.get(measure) is not None]
        # A jitter with a fixed seed separates equal scores and keeps the figure reproducible.
        jitter = np.random.default_rng(place).uniform(-0.2, 0.2, len(values))
        axes.scatter(values, place + jitter, s=11, color=colour, alpha=0.4, linewidths=0, zorder=2)
        if measure in scores[name]:
            _draw_mean(axes, place, scores[name][measure], colour)
    axes.set_ylim(len(names) - 0.3, -0.9)
    if measure.startswith(("hd95", "fp_area", "fp_volume")):
        axes.set_xlim(left=0)
    else:
        axes.set_xlim(-0.02, 1.02)
    floors = [scores[name][measure].value for name in names if is_floor(name) and measure in scores[name]]
    if floors:
        best = min(floors) if lower_is_better(measure) else max(floors)
        _draw_floor(axes, best)


def _draw_mean(axes: Axes, place: int, score: Score, colour: str) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2.2, zorder=3, solid_capstyle="butt")
    axes.plot(score.value, place, marker="D", markersize=6, color=colour, markeredgecolor="white", zorder=4)


def _draw_floor(axes: Axes, value: float) -> None:
    """Draw a vertical line with its name at the top, on the side with more room."""
    axes.axvline(value, color=GREY, linewidth=1.1, linestyle=":", zorder=1)
    low, high = axes.get_xlim()
    left = value > (low + high) / 2
    axes.annotate(
        "best floor",
        (value, 1),
        (-3 if left else 3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=7.5,
        color=GREY,
    )


def results_blocks(
    results: Mapping[str, float],
    *,
    prefix: str = "test/",
    phantom: bool = False,
    words: TargetWords = LESION,
) -> list[Block]:
    """Report tables of all scores with the floors: agreement of the maps, their false positives, classification.

    The headings link to what `explain_measures` gives.

    Args:
        results: flat names to values, see `seewhy.figures.labels.scores_by_method`.
        prefix: prefix of the names to show.
        phantom: whether the data are synthetic, which the caption then states.
        words: of the data set.
    """
    blocks: list[Block] = []
    false = (*FALSE_POSITIVES, "fp_area")
    agreement = tuple(name for name in MEASURES if name not in (*CLASSIFICATION, *false))
    for wanted in (agreement, false, CLASSIFICATION):
        scores = {name: own for name, own in scores_by_method(results, prefix=prefix).items() if set(own) & set(wanted)}
        columns = present_measures(scores, wanted)
        if not columns:
            continue
        blocks.append(
            ReportTable(
                columns=["", *[label_of(name, words) for name in columns]],
                rows=[
                    [label_of(name), *[own[m].text(m) if m in own else NONE for m in columns]]
                    for name, own in scores.items()
                ],
                caption=describe_data(
                    results, prefix=prefix, phantom=phantom, samples=wanted == CLASSIFICATION, words=words
                ),
                quiet=[is_floor(name) for name in scores],
                links={label_of(name, words): f"measure-{name}" for name in columns if name in GLOSSARY},
            )
        )
    return blocks


def explain_measures(blocks: Sequence[Block], words: TargetWords = LESION) -> list[Block]:
    """Explain the measures to which the headings of report tables link, in the order of the glossary.

    Args:
        blocks: of the report.
        words: of the data set.

    Returns:
        One block of definitions, or none without such headings.

    Example:
        >>> [definitions] = explain_measures(results_blocks({"test/refined/dice": 0.8}))
        >>> list(definitions.entries)
        ['measure-dice']
    """
    linked = {anchor for block in blocks if isinstance(block, ReportTable) for anchor in block.links.values()}
    entries = {
        f"measure-{name}": (
            label_of(name, words),
            words.fill(f"{entry.meaning} Floor: {entry.chance} It does not see: {entry.blind}"),
        )
        for name, entry in GLOSSARY.items()
        if f"measure-{name}" in linked
    }
    return [Definitions(entries)] if entries else []
