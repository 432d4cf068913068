"""Tables of explanation scores: terminal tables, and the section of the report with its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from seewhy.figures.explanations.ranking import MethodRow, Ranking, read_ranking
from seewhy.figures.explanations.regions import region_block
from seewhy.figures.labels import NONE, method_label, parse_number
from seewhy.figures.report.blocks import Block, Picture, ReportTable, Section, Text

__all__ = ["Checks", "explanation_section", "explanation_tables", "share_table"]

LOCALISATION = {
    "pointing game": "pointing",
    "energy inside the mask": "energy",
    "AUPRC": "AUPRC",
    "IoU at the validation's threshold": "IoU",
}
"""Score of the ranking → heading, for scores of localisation."""
FAITHFULNESS = {
    "deletion, gap to blurred noise": "deletion",
    "insertion, gap to blurred noise": "insertion",
    "stability under noise": "stable",
}
"""Score of the ranking → heading, for scores of the connection between map and prediction."""
NO_INTERVAL = ("IoU", "stable")
"""Headings of columns without intervals."""
SECONDS = "seconds per map"
CONTROL = "control_"
POINTS = "pointing: highest pixel in the mask; energy: share of the evidence in it; IoU: threshold from validation"
MEANINGS = {
    "deletion": "deletion, insertion: gap to orders of noise as smooth as the map",
    "stable": "stable: rank correlation under noise",
    "error": "error: of the sum (completeness), median",
    "random": "random: maps change with the network's weights",
    "class": "class: maps change with the class",
}
"""Heading → meaning, added to the caption if the column is shown."""
VERDICTS = {None: NONE, True: "passes", False: "[not dim bold red]FAILS[/]"}
WIDTH = 66
"""Smallest width of a table, so that its caption fits."""


class Checks(NamedTuple):
    """Checks of a method, shown with its scores."""

    passes: bool | None = None
    """Result of the randomisation test; None if inconclusive."""
    completeness: float | None = None
    """Median completeness error; None for methods without the completeness property."""
    contrast: bool | None = None
    """Result of the contrast test; None if inconclusive."""


def explanation_tables(
    rows: Iterable[Mapping[str, Any]], *, checks: Mapping[str, Checks], note: str = "", phantom: bool = False
) -> list[Table]:
    """Terminal tables of localisation and of faithfulness; tables without values are left out.

    Best methods first, each with its value on re-initialised networks; below a rule, maps made without a network, and
    chance. A star marks values that are not clearly (with the whole interval) better than their floors.

    Args:
        rows: see `seewhy.figures.explanations.ranking.ranking_figure`.
        checks: method → checks.
        note: data behind the numbers.
        phantom: whether the data are synthetic, which the captions then state.
    """
    ranking = read_ranking(rows)
    foot = [note, "[bold yellow]PHANTOM[/] data, not patients" if phantom else ""]
    tables = (_localisation_table(ranking, foot), _faithfulness_table(ranking, checks, foot))
    return [table for table in tables if table.row_count and len(table.columns) > 1]


def share_table(
    shares: Mapping[str, Mapping[str, float]], effects: Mapping[str, float], *, phantom: bool = False
) -> Table:
    """Terminal table with one row per input: its share of the evidence per method, and the fall of the probability.

    Args:
        shares: method → input → mean share, 0 to 1.
        effects: input → mean fall of the target's probability without the input; empty if not measured.
        phantom: whether the data are synthetic.
    """
    inputs = list(dict.fromkeys(name for method in shares.values() for name in method))
    notes = [f"shares of the evidence; spread evenly: {1 / max(len(inputs), 1):.0%} each"]
    notes += ["[bold yellow]PHANTOM[/] data, not patients"] if phantom else []
    table = _table("; ".join(notes))
    for method in shares:
        table.add_column(method_label(method), justify="right", overflow="fold")
    if effects:
        table.add_column("fall of the probability without it", justify="right", overflow="fold")
    for name in inputs:
        cells = [f"{own[name]:.0%}" if name in own else NONE for own in shares.values()]
        table.add_row(name, *cells, *([f"{effects[name]:+.2f}" if name in effects else NONE] if effects else []))
    return table


def _localisation_table(ranking: Ranking, foot: Sequence[str]) -> Table:
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    heads = {score: head for score, head in LOCALISATION.items() if score in ranking.scores}
    star = "*: not clearly better than chance and than itself on re-initialised networks"
    table = _table("\n".join([POINTS, star, "; ".join(part for part in foot if part)]))
    for head in heads.values():
        table.add_column(head, justify="right", no_wrap=True)
    methods, controls = _split(ranking, heads)
    for method in methods:
        own = [cells.get((method, score)) for score in heads]
        table.add_row(method_label(method), *_line(own, heads))
        if any(entry is not None and entry.untrained is not None for entry in own):
            table.add_row("  re-initialised", *map(_untrained, own), style="dim")
    table.add_section()
    for method in controls:
        own = [cells.get((method, score)) for score in heads]
        table.add_row(method_label(method), *_line(own, heads), style="dim")
    chance = [next((entry.floor for entry in ranking.of(score) if entry.floor is not None), None) for score in heads]
    if any(value is not None for value in chance):
        table.add_row(
            "chance (mask share)", *(NONE if value is None else _short(value) for value in chance), style="dim"
        )
    return table


def _faithfulness_table(ranking: Ranking, checks: Mapping[str, Checks], foot: Sequence[str]) -> Table:
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    columns = {score: head for score, head in FAITHFULNESS.items() if score in ranking.scores}
    complete = any(check.completeness is not None for check in checks.values())
    tested = any(check.passes is not None for check in checks.values())
    contrasted = any(check.contrast is not None for check in checks.values())
    timed = SECONDS in ranking.scores
    heads = [
        *columns.values(),
        *["error"] * complete,
        *["random"] * tested,
        *["class"] * contrasted,
        *["s/map"] * timed,
    ]
    meanings = "; ".join(meaning for head, meaning in MEANINGS.items() if head in heads)
    table = _table("\n".join(part for part in (meanings, "; ".join(part for part in foot if part)) if part))
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    methods, controls = _split(ranking, {*columns, SECONDS})
    for method in [*methods, *controls]:
        check = checks.get(method, Checks())
        line = _line([cells.get((method, score)) for score in columns], columns)
        line += [NONE if check.completeness is None else f"{check.completeness:.1%}"] * complete
        line += [VERDICTS[check.passes]] * tested + [VERDICTS[check.contrast]] * contrasted
        seconds = cells.get((method, SECONDS))
        line += [NONE if seconds is None else f"{seconds.value:.2g}"] * timed
        table.add_row(method_label(method), *line, style="dim" if method in controls else None,
                      end_section=bool(methods) and method == methods[-1])  # fmt: skip
    return table


def _table(caption: str) -> Table:
    table = Table(caption=caption.strip(), caption_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0,
                  min_width=WIDTH)  # fmt: skip
    table.add_column("", overflow="fold")
    return table


def _split(ranking: Ranking, scores: Iterable[str]) -> tuple[list[str], list[str]]:
    """Methods with any of these scores, and controls without a network, best first."""
    shown = {entry.method for score in scores for entry in ranking.of(score)}
    names = [method for method in ranking.methods if method in shown]
    return [name for name in names if not name.startswith(CONTROL)], [
        name for name in names if name.startswith(CONTROL)
    ]


def _line(entries: Sequence[MethodRow | None], heads: Mapping[str, str]) -> list[str]:
    return [
        _terminal_cell(entry, interval=head not in NO_INTERVAL)
        for entry, head in zip(entries, heads.values(), strict=True)
    ]


def _terminal_cell(entry: MethodRow | None, *, interval: bool = True) -> str:
    if entry is None:
        return NONE
    star = " " if entry.clear or entry.method.startswith(CONTROL) else "*"
    fine = entry.score in LOCALISATION  # chance can be a small share there
    return f"{_short(entry.value, fine=fine)}{star}" + (_bounds(entry.low, entry.high, fine=fine) if interval else "")


def _untrained(entry: MethodRow | None) -> str:
    if entry is None or entry.untrained is None:
        return NONE
    return f"{_short(entry.untrained)} {_bounds(entry.untrained_low, entry.untrained_high)}"


def _bounds(low: float | None, high: float | None, *, fine: bool = True) -> str:
    return "" if low is None or high is None else rf"\[{_short(low, fine=fine)},{_short(high, fine=fine)}]"


def _short(value: float, *, fine: bool = True) -> str:
    """Two decimals, three for small values; without the leading zero, to save width."""
    digits = 3 if fine and 0 < abs(value) < 0.0995 else 2
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0 turns a negative zero into zero
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-").startswith("0.") else text


def explanation_section(
    *,
    rows: Iterable[Mapping[str, Any]] = (),
    by_class: Iterable[Mapping[str, Any]] = (),
    regions: Sequence[Mapping[str, Any]] = (),
    failures: Mapping[str, Sequence[str]] | None = None,
    figures: Mapping[str, Figure | Path] | None = None,
    pictures: Mapping[str, Path] | None = None,
    limit: int = 12,
    note: str = "",
    phantom: bool = False,
) -> Section:
    """Section of the report: failed checks first, then the scores with their floors, then pictures.

    Args:
        rows: scores, see `seewhy.figures.explanations.ranking.ranking_figure`.
        by_class: rows of `ranking_by_class.csv`, see `seewhy.reporting.ranking`.
        regions: rows of `regions.csv`, see `seewhy.reporting.regions.region_rows`.
        failures: method → checks that its maps failed.
        figures: caption → figures such as ranking, summary and shares; all are shown.
        pictures: caption → picture of a sample; only the first ones are embedded.
        limit: largest number of pictures of samples.
        note: data behind the numbers, printed below the table.
        phantom: whether the data are synthetic, which the caption of the table then states.

    Raises:
        ValueError: there is nothing to show.
        FileNotFoundError: raised when the report is written, if a picture does not exist.
    """
    blocks: list[Block] = [
        Text(f"{method_label(method)}: {'; '.join(reasons)}. Its maps are marked and must not be read as findings.")
        for method, reasons in (failures or {}).items()
        if reasons
    ]
    ranking = read_ranking(rows)
    if ranking.entries:
        blocks.append(_report_table(ranking, failures or {}, note=note, phantom=phantom))
    blocks += _class_table(list(by_class), phantom=phantom)
    blocks += [region_block(regions, phantom=phantom)] if regions else []
    blocks += [Picture(source, caption) for caption, source in (figures or {}).items()]
    chosen = list((pictures or {}).items())
    blocks += [Picture(path, caption) for caption, path in chosen[:limit]]
    rest = len(chosen) - limit
    if rest > 0:
        more = "1 more picture is" if rest == 1 else f"{rest} more pictures are"
        blocks.append(Text(f"{more} in the folder explanations of the run."))
    if not blocks:
        raise ValueError("no scores and no pictures of explanations to report")
    return Section("Explanations", blocks)


def _report_table(ranking: Ranking, failures: Mapping[str, Sequence[str]], *, note: str, phantom: bool) -> ReportTable:
    """Table of methods by scores, best method first, with a last row of the floors that all methods share."""
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    lines = [
        [method_label(method) + (" (failed a check)" if failures.get(method) else "")]
        + [_report_cell(cells.get((method, score))) for score in ranking.scores]
        for method in ranking.methods
    ]
    quiet = [bool(failures.get(method)) for method in ranking.methods]
    floors = [{entry.floor for entry in ranking.of(score)} for score in ranking.scores]
    common = [NONE if None in own or len(own) != 1 else f"{own.pop():.3g}" for own in floors]
    if any(text != NONE for text in common):
        lines, quiet = [*lines, ["floor", *common]], [*quiet, True]
    star = "" if all(entry.clear for entry in ranking.entries) else "* not clearly better than its floor"
    if any(entry.untrained is not None for entry in ranking.entries):
        star = f"{star}; re: the same method, re-initialised networks, also a floor".removeprefix("; ")
    notes = ["methods by mean rank", star, note, "PHANTOM data, not patients" if phantom else ""]
    arrows = ["↑" if all(entry.higher for entry in ranking.of(score)) else "↓" for score in ranking.scores]
    columns = ["", *(f"{score} {arrow}" for score, arrow in zip(ranking.scores, arrows, strict=True))]
    return ReportTable(columns=columns, rows=lines, caption="; ".join(part for part in notes if part), quiet=quiet)


def _class_table(rows: Sequence[Mapping[str, Any]], *, phantom: bool) -> list[Block]:
    """Table of localisation by true class; nothing without rows."""
    if not rows:
        return []
    scores = {"pointing": "pointing ↑", "energy": "energy ↑", "auprc": "AUPRC ↑"}

    def cell(row: Mapping[str, Any], name: str) -> str:
        value, low, high = (parse_number(row.get(f"{name}{end}")) for end in ("", "_low", "_high"))
        interval = "" if low is None or high is None else f" [{low:.2g}, {high:.2g}]"
        return NONE if value is None else f"{value:.3g}{interval}"

    cells = [
        [str(row["class"]), method_label(str(row["method"])), *(cell(row, name) for name in scores),
         f"{row['mask_share']:.2g}", str(row["samples"])]
        for row in rows
    ]  # fmt: skip
    caption = "by true class: means over patients; chance is the mask's share of the area"
    caption += "; PHANTOM data, not patients" if phantom else ""
    return [ReportTable(["class", "method", *scores.values(), "chance", "cases"], cells, caption)]


def _report_cell(entry: MethodRow | None) -> str:
    if entry is None:
        return NONE
    interval = "" if entry.low is None or entry.high is None else f" [{entry.low:.2g}, {entry.high:.2g}]"
    untrained = "" if entry.untrained is None else f"; re {entry.untrained:.2g}"
    return f"{entry.value:.3g}{interval}{untrained}" + ("" if entry.clear else " *")
