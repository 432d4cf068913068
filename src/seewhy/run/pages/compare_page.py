"""Page and tables of compared runs: paired differences, patients that only one has, and cases that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from seewhy.figures.labels import NONE
from seewhy.figures.report.blocks import Block, Facts, NoteList, Picture, ReportTable, Section, Text
from seewhy.figures.report.page import PHANTOM, write_report
from seewhy.figures.style import GREY, INK, PALETTE, add_captions, blank_figure, style_axes
from seewhy.io.atomic import write_csv
from seewhy.options import flatten_options
from seewhy.run.pages.compare import Comparison, PairedScore, RunScores
from seewhy.run.pages.facts import read_facts

__all__ = ["differences_figure", "print_comparison", "write_comparison"]

METHOD = (
    "Differences are paired: each patient is compared with itself, and patients are resampled (95 % intervals). An "
    "interval without 0 shows a difference; with many rows some do so by chance."
)
COLUMNS = (
    "reference", "run", "score", "patients", "reference_value", "run_value", "difference", "low", "high", "verdict"
)  # fmt: skip
SHOWN = 30
"""Names of patients in one line."""


def write_comparison(folder: Path, runs: Sequence[RunScores], comparisons: Sequence[Comparison]) -> list[Path]:
    """Write `compare.csv`, `changes.csv` and `compare.html`.

    Args:
        folder: gets the files.
        runs: all runs, the reference first.
        comparisons: of each other run with the reference.
    """
    rows = [
        {
            "reference": item.reference, "run": item.run, "score": score.name, "patients": score.patients,
            "reference_value": score.first, "run_value": score.second, "difference": score.second - score.first,
            "low": score.difference and score.difference.low, "high": score.difference and score.difference.high,
            "verdict": score.verdict,
        }
        for item in comparisons
        for score in item.scores
    ]  # fmt: skip
    changes = [
        {
            "run": item.run, "case": change.id, "patient": change.patient, "score": change.score,
            "reference_value": change.first, "run_value": change.second, "change": change.change, "note": change.note,
        }
        for item in comparisons
        for change in item.changes
    ]  # fmt: skip
    columns = ("run", "case", "patient", "score", "reference_value", "run_value", "change", "note")
    page = write_report(
        folder / "compare.html",
        title=f"{len(runs)} runs compared",
        lead=f"Every run is compared with {runs[0].name}, on the patients that both have.",
        sections=[part for item in comparisons for part in _make_sections(item, len(comparisons) > 1)]
        + [Section("Runs", _describe_runs(runs))],
        warnings=_find_warnings(runs, comparisons),
    )
    paths = [
        write_csv(folder / "compare.csv", rows, columns=COLUMNS),
        write_csv(folder / "changes.csv", changes, columns=columns),
    ]
    return [page, *paths]


def _find_warnings(runs: Sequence[RunScores], comparisons: Sequence[Comparison]) -> list[str]:
    lines = [PHANTOM] if any(run.phantom for run in runs) else []
    for item in comparisons:
        for names, run in ((item.only_first, item.reference), (item.only_second, item.run)):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(
                    f"{len(names)} patients are only in {run} and take no part: {', '.join(names[:SHOWN])}{more}."
                )
        if len(item.shared) < 10:
            lines.append(f"{item.run}: only {len(item.shared)} patients are in both, so that intervals are rough.")
        lines += [f"{item.run}: {note}." for note in item.notes]
    return lines


def _make_sections(item: Comparison, named: bool) -> list[Section]:
    suffix = f": {item.run}" if named else ""
    rows = [
        [
            score.name,
            str(score.patients),
            _format(score.first),
            _format(score.second),
            _format_difference(score),
            score.verdict,
        ]
        for score in item.scores
    ]
    table = ReportTable(
        ["", "patients", item.reference, item.run, "difference", "the second run is"], rows, METHOD,
        quiet=[score.verdict not in ("better", "worse") for score in item.scores],
    )  # fmt: skip
    blocks: list[Block] = [Text(f"{item.run} against {item.reference}, {len(item.shared)} patients in both."), table]
    figure = differences_figure(item)
    if figure is not None:
        alt = "Paired differences with their intervals; the numbers are in the table."
        blocks.append(Picture(figure, "Bars: 95 % interval of the paired difference of each score.", alt))
    sections = [Section(f"Paired differences{suffix}", blocks, menu=f"Differences{suffix}")]
    if item.changes:
        cells = [
            [change.id, *([change.patient] if _several(item) else []), _format(change.first), _format(change.second),
             f"{change.change:+.3f}", change.note]
            for change in item.changes
        ]  # fmt: skip
        columns = ["case", *(["patient"] if _several(item) else []), item.reference, item.run, "change", "classes"]
        if not any(change.note for change in item.changes):
            columns, cells = columns[:-1], [row[:-1] for row in cells]
        caption = f"{item.changes[0].score}; the largest changes first; changes.csv has the same."
        sections.append(Section(f"Cases that changed most{suffix}", [ReportTable(columns, cells, caption)],
                                menu=f"Changes{suffix}"))  # fmt: skip
    return sections


def _several(item: Comparison) -> bool:
    """Whether cases have other names than their patients."""
    return any(change.id != change.patient for change in item.changes)


def _describe_runs(runs: Sequence[RunScores]) -> list[Block]:
    """What each run is, and the options in which they differ."""
    facts = [read_facts(run.folder) for run in runs]
    blocks: list[Block] = [Facts({run.name: str(run.folder) for run in runs})]
    flat = [{key: str(value) for key, value in flatten_options(own.config).items()} for own in facts]
    names = dict.fromkeys(key for own in flat for key in own)
    homes = [str(run.folder.resolve()) for run in runs]

    def differs(name: str) -> bool:
        values = [own.get(name, NONE).replace(home, "") for own, home in zip(flat, homes, strict=True)]
        return len(set(values)) > 1  # a path inside the own run folder is the same choice

    rows = [[name, *(own.get(name, NONE) for own in flat)] for name in names if differs(name)]
    if rows:
        blocks.append(ReportTable(["option", *(run.name for run in runs)], rows, "Options in which the runs differ."))
    splits = {own.code.get("split") for own in facts}
    if len(splits) > 1:
        blocks.append(
            NoteList(["The runs have different splits: a patient that one of them tests, another may have trained on."])
        )
    return blocks


def differences_figure(item: Comparison) -> Figure | None:
    """Draw the paired difference of each score with its interval; None without any interval.

    Scores in other units than shares (distances, volumes) are left out, because they have another scale.
    """
    scores = [score for score in item.scores if score.difference is not None and _is_share(score)]
    if not scores:
        return None
    figure = blank_figure(7.5, 0.3 * len(scores) + 1.1)
    axes = style_axes(figure.subplots())
    for place, score in enumerate(scores):
        assert score.difference is not None
        colour = (
            GREY if score.verdict == "no clear difference" else PALETTE[0] if score.verdict == "better" else PALETTE[1]
        )
        axes.plot([score.difference.low, score.difference.high], [place, place], color=colour, linewidth=2.2)
        axes.plot(score.difference.mean, place, "D", color=colour, markersize=5)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(
        range(len(scores)), [score.name + (" (lower is better)" if score.lower else "") for score in scores]
    )
    axes.invert_yaxis()
    axes.set_xlabel(f"{item.run} minus {item.reference}", fontsize=8, color=INK)
    return add_captions(figure, head="blue: better, orange: worse, grey: no clear difference")


def _is_share(score: PairedScore) -> bool:
    return not any(word in score.name for word in ("HD95", "mL", " px", "PSNR", "psnr"))


def _format(value: float) -> str:
    return f"{value:.3f}"


def _format_difference(score: PairedScore) -> str:
    gap = f"{score.second - score.first:+.3f}"
    return gap if score.difference is None else f"{gap} [{score.difference.low:+.3f}, {score.difference.high:+.3f}]"


def print_comparison(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print one table per comparison, and who takes no part."""
    for item in comparisons:
        table = Table(title=f"{item.run} against {item.reference}, {len(item.shared)} patients in both",
                      title_justify="left", caption=METHOD, caption_justify="left", box=box.SIMPLE_HEAD)  # fmt: skip
        table.add_column("", overflow="fold")
        for name in ("reference", "run", "difference", ""):
            table.add_column(name, justify="right")
        for score in item.scores:
            style = None if score.verdict in ("better", "worse") else "dim"
            cells = (_format(score.first), _format(score.second), _format_difference(score).replace("[", "\\["))
            table.add_row(score.name, *cells, score.verdict, style=style)
        console.print(table)
        for names, run in ((item.only_first, item.reference), (item.only_second, item.run)):
            if names:
                console.print(f"only in {run}: {', '.join(names)}", highlight=False, markup=False)
        for note in item.notes:
            console.print(note, highlight=False, markup=False)
