"""Results in the terminal: every score beside the floors, and beside the ceiling where there is one."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from seewhy.figures.labels import (
    CASES,
    CLASSIFICATION,
    NONE,
    SEGMENTATION,
    Score,
    is_floor,
    label_of,
    lower_is_better,
    measured,
    methods,
    note,
)

__all__ = ["results_table"]

SHORT = {
    "dice_positive": "Dice +",
    "auprc": "AUPRC",
    "hd95_mm": "HD95 mm",
    "hd95_px": "HD95 px",
    "fp_slices": "FP",
    "balanced_accuracy": "balanced",
    "mae": "MAE",
    "ece": "ECE",
}
"""Headings short enough for 80 columns; the caption explains them."""
WITH_INTERVAL = ("dice",)
NO_RIVALS = ("ceiling", "ideal")
"""Lines that say what could be reached at best."""


def results_table(
    results: Mapping[str, float],
    *,
    prefix: str = "test/",
    ceiling: Mapping[str, float] | None = None,
    phantom: bool = False,
    classification: bool = False,
    title: str | None = None,
) -> Table:
    """One line per method, floors below a rule; the best of each column bold, floors that win in red.

    Args:
        results: flat names to values, see `seewhy.figures.labels.methods`.
        prefix: of the names to show, e.g. "test/" or "".
        ceiling: measure → what a model trained with masks reaches, as a last line.
        phantom: whether the data are synthetic; the caption says so.
        classification: show AUROC, accuracy and so on of the samples instead of the maps' scores.
        title: above the table.
    """
    wanted: tuple[str, ...] = SEGMENTATION
    if classification:
        wanted = CASES if f"{prefix}balanced_accuracy" in results else CLASSIFICATION
    scores = {name: own for name, own in methods(results, prefix=prefix).items() if set(own) & set(wanted)}
    columns = measured(scores, wanted)
    if ceiling:
        scores["ceiling"] = {name: Score(float(ceiling[name])) for name in columns if name in ceiling}
    caption = _caption(results, prefix, columns, phantom=phantom)
    table = Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for measure in columns:
        arrow = " ↓" if lower_is_better(measure) else ""
        table.add_column(SHORT.get(measure, label_of(measure)) + arrow, justify="right", no_wrap=True)
        if measure in WITH_INTERVAL:
            table.add_column("95 %", justify="right", no_wrap=True)
    names = list(scores)
    for i, name in enumerate(names):
        following = names[i + 1] if i + 1 < len(names) else name
        table.add_row(
            label_of(name),
            *[cell for measure in columns for cell in _cells(scores, name, measure)],
            end_section=is_floor(name) != is_floor(following) or following == "ceiling" != name,
            style="dim" if is_floor(name) else None,
        )
    return table


def _cells(scores: Mapping[str, Mapping[str, Score]], method: str, measure: str) -> list[str]:
    """The mean, bold where it is the best and red where that is a floor, and the interval where it is shown."""
    score = scores[method].get(measure)
    interval = [score.bounds(measure) if score else NONE] if measure in WITH_INTERVAL else []
    if score is None:
        return [NONE, *interval]
    text = score.text(measure, interval=False)
    rivals = [own[measure].value for name, own in scores.items() if measure in own and name not in NO_RIVALS]
    best = (min if lower_is_better(measure) else max)(rivals)
    if method not in NO_RIVALS and score.value == best:
        text = f"[not dim bold red]{text}[/]" if is_floor(method) else f"[bold]{text}[/]"
    return [text, *interval]


def _caption(results: Mapping[str, float], prefix: str, columns: tuple[str, ...], *, phantom: bool) -> str:
    lines = [note(results, prefix=prefix, phantom=phantom, samples="auroc" in columns)]
    if "balanced_accuracy" in columns:
        grades = "; MAE: in grades" if "mae" in columns else ""
        lines.append(f"balanced: mean recall of the classes{grades}; ECE: calibration error")
    if "dice_positive" in columns:
        lines.append("Dice +: on slices that show a lesion")
    if "fp_slices" in columns:
        lines.append("FP: share of healthy slices hit")
    return "\n".join(line for line in lines if line).replace("PHANTOM", "[bold yellow]PHANTOM[/]")
