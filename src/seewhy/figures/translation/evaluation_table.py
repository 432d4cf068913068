"""An evaluation in the terminal: every method beside the raw value, real scans among themselves, and chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from seewhy.figures.translation.evaluation import DIRECTIONS, METHODS, PROBES, matched_words, unsettled

__all__ = ["likeness_table", "print_evaluation", "traces_table"]

NONE = "-"
SHORT = {"real": "real vs real", "counterpart": "true", "identity": "untranslated", "histogram": "histogram"}
"""Names that leave room for the numbers in 80 columns."""
KNOWN = ("floor", "truth")
"""Status of rows that are no method."""
Rows = Sequence[Mapping[str, Any]]


def print_evaluation(evaluation: Mapping[str, Any], rows: Rows, console: Console, *, folder: Path) -> None:
    """Print both tables and where everything was written.

    Args:
        evaluation: what `evaluation.json` holds.
        rows: of `table.csv`.
        console: where to.
        folder: of the files.
    """
    console.print(likeness_table(evaluation, rows))
    console.print(traces_table(evaluation, rows))
    console.print(f"[bold]{folder}[/]")
    for name in ("table.csv", "evaluation.png", "evaluation.json", "samples.parquet"):
        console.print(f"  {name}", highlight=False)


def likeness_table(evaluation: Mapping[str, Any], rows: Rows) -> Table:
    """Similarity to the same head, where there is one, and distances to the target's real scans."""
    table = _table("SSIM", "PSNR", "cycle\nSSIM", "Fréchet ↓", "KID ↓", "MMD ↓")
    for row in _with_headings(table, [row for row in rows if row["status"] != "truth"]):
        scores = [_number(row[name], digits) for name, digits in (("ssim", 3), ("psnr", 2), ("cycle_ssim", 3))]
        distances = [
            _number(row[f"{name}_matched"], digits) for name, digits in (("frechet", 2), ("kid", 3), ("mmd", 3))
        ]
        _add(table, row, [*scores, *distances])
    features = evaluation["features"]
    lines = [
        "SSIM, PSNR: against the same head on the other scanner, where there is one; cycle: against the input",
        f"distances in features of {features['name']}, means over random groups of as many patients "
        f"({matched_words(evaluation)}); real vs real: between two groups of the target's",
        features["note"],
    ]
    table.caption = _caption(evaluation, lines)
    return table


def traces_table(evaluation: Mapping[str, Any], rows: Rows) -> Table:
    """Whether the sites can still be told apart, and what became of lesions."""
    probes = [(probe, kind) for probe in PROBES for kind in ("frozen", "retrained")]
    modality = evaluation["lesions"]["modality"]
    headings = [f"{PROBES[probe]}\n{kind}" for probe, kind in probes]
    table = _table(*headings, f"{modality}\nlesion", "\nDice")
    for row in _with_headings(table, rows):
        cells = [_spread(row, f"{probe}_{kind}") for probe, kind in probes]
        _add(table, row, [*cells, _number(row["lesion_contrast"], 2), _number(row["lesion_dice"], 2)])
    lines = [
        "site probes: balanced accuracy ± SD over seeds, chance 0.50; a network on pictures, logistic regression on "
        "features. Retrained is what counts. Real vs real: halves of the target's patients told apart",
        evaluation["probes"]["not_estimated"],
        unsettled(evaluation),
        "lesion: its contrast with what surrounds it, and Dice of what is as bright with the mask; true: the same head "
        "on the other scanner, where known",
    ]
    table.caption = _caption(evaluation, lines)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _with_headings(table: Table, rows: Rows) -> Iterator[Mapping[str, Any]]:
    """Rows, each direction's after a line that names it."""
    for direction in dict.fromkeys(row["direction"] for row in rows):
        table.add_row(f"[bold]{DIRECTIONS[direction]}[/]")
        yield from (row for row in rows if row["direction"] == direction)
        table.add_section()


def _add(table: Table, row: Mapping[str, Any], cells: list[str]) -> None:
    name = SHORT.get(row["method"], METHODS.get(row["method"], row["method"]))
    if row["status"] not in ("ok", *KNOWN):
        name, cells = f"{name}:\n{row['status'].partition(' (')[0][:24]}", [""] * len(cells)  # why: see caption
    style = "bold" if row["method"] == "model" else "dim" if row["status"] != "ok" else None
    table.add_row(name, *cells, style=style)


def _caption(evaluation: Mapping[str, Any], lines: Sequence[str | None]) -> str:
    patients = evaluation["patients"]
    head = f"{patients['a']} patients of a, {patients['b']} of b, {evaluation['predict_on']}"
    if evaluation["phantom"]:
        head = f"[bold yellow]PHANTOM[/]: synthetic heads · {head}"
    missing = [f"{METHODS.get(name, name)}: {status}" for name, status in evaluation["methods"].items()
               if status != "ok"]  # fmt: skip
    return "\n".join(line.replace("[harm", "\\[harm") for line in (head, *lines, *missing) if line)


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _spread(row: Mapping[str, Any], name: str) -> str:
    """Mean and standard deviation over seeds."""
    if row[name] is None:
        return NONE
    spread = row[f"{name}_seed_sd"]
    return f"{row[name]:.2f}" if spread is None else f"{row[name]:.2f}±{spread:.2f}".replace("±0.", "±.")
