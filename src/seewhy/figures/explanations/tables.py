"""What a run's explanations are worth, in the terminal: methods, their own floors, and floors without a network.

What the report says of a run's explanations: how far the methods are to be believed, and some pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from seewhy.figures.explanations.ranking import MethodRow, Ranking, read_ranking
from seewhy.figures.labels import NONE, method_label
from seewhy.figures.report import Block, Picture, ReportTable, Section, Text

__all__ = ["Checks", "explanation_section", "explanation_tables", "share_table"]

WHERE = {
    "pointing game": "pointing",
    "energy inside the mask": "energy",
    "AUPRC": "AUPRC",
    "IoU at the validation's threshold": "IoU",
}
"""Score of the ranking → heading; these say where the maps lie."""
WHY = {
    "deletion, gap to blurred noise": "deletion",
    "insertion, gap to blurred noise": "insertion",
    "stability under noise": "stable",
}
"""Score of the ranking → heading; these say whether the maps hang together with the prediction."""
BARE = ("IoU", "stable")
"""Headings whose values stand without an interval."""
SECONDS = "seconds per map"
CONTROL = "control_"
POINTS = "pointing: highest pixel in the mask; energy: share of the evidence in it; IoU: threshold from validation"
MEANINGS = {
    "deletion": "deletion, insertion: gap to orders of noise as smooth as the map",
    "stable": "stable: rank correlation under noise",
    "error": "error: of the sum (completeness), median",
    "random": "random: maps change with the network's weights",
}
"""Heading → what it means, said where there is such a column."""
WIDTH = 66
"""Least width of a table, so that its caption has room."""


class Checks(NamedTuple):
    """What is known of a method beside its scores."""

    passes: bool | None = None
    """The randomisation test; None where it says nothing."""
    completeness: float | None = None
    """Median completeness error; None where the method promises no sum."""


def explanation_tables(
    rows: Iterable[Mapping[str, Any]], *, checks: Mapping[str, Checks], note: str = "", phantom: bool = False
) -> list[Table]:
    """One table of where the maps lie, and one of what they hang on; those that have any value.

    Best methods first, each with what it reaches on re-initialised networks; then, below a rule, maps that are made
    without a network, and chance. A star marks what is not clearly (with its whole interval) better than its floors.

    Args:
        rows: see `seewhy.figures.explanations.ranking.ranking_figure`.
        checks: method → its checks.
        note: what the numbers rest on.
        phantom: whether the data are synthetic; the captions say so.
    """
    ranking = read_ranking(rows)
    foot = [note, "[bold yellow]PHANTOM[/] data, not patients" if phantom else ""]
    where, why = _where(ranking, foot), _why(ranking, checks, foot)
    return [table for table in (where, why) if table.row_count and len(table.columns) > 1]


def share_table(
    shares: Mapping[str, Mapping[str, float]], effects: Mapping[str, float], *, phantom: bool = False
) -> Table:
    """One line per input: its share of the evidence by each method, and how far the probability falls without it.

    Args:
        shares: method → input → mean share, 0 to 1.
        effects: input → mean fall of the target's probability when it is left out; empty where it was not measured.
        phantom: whether the data are synthetic.
    """
    inputs = list(dict.fromkeys(name for own in shares.values() for name in own))
    told = [f"shares of the evidence; spread evenly each had {1 / max(len(inputs), 1):.0%}"]
    told += ["[bold yellow]PHANTOM[/] data, not patients"] if phantom else []
    table = _table("; ".join(told))
    for method in shares:
        table.add_column(method_label(method), justify="right", overflow="fold")
    if effects:
        table.add_column("fall of the probability without it", justify="right", overflow="fold")
    for name in inputs:
        cells = [f"{own[name]:.0%}" if name in own else NONE for own in shares.values()]
        table.add_row(name, *cells, *([f"{effects[name]:+.2f}" if name in effects else NONE] if effects else []))
    return table


def _where(ranking: Ranking, foot: Sequence[str]) -> Table:
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    known = {score: head for score, head in WHERE.items() if score in ranking.scores}
    star = "*: not clearly better than chance and than itself on re-initialised networks"
    table = _table("\n".join([POINTS, star, "; ".join(part for part in foot if part)]))
    for head in known.values():
        table.add_column(head, justify="right", no_wrap=True)
    methods, controls = _split(ranking, known)
    for method in methods:
        own = [cells.get((method, score)) for score in known]
        table.add_row(method_label(method), *_line(own, known))
        if any(entry is not None and entry.untrained is not None for entry in own):
            table.add_row("  re-initialised", *map(_untrained, own), style="dim")
    table.add_section()
    for method in controls:
        own = [cells.get((method, score)) for score in known]
        table.add_row(method_label(method), *_line(own, known), style="dim")
    chance = [next((entry.floor for entry in ranking.of(score) if entry.floor is not None), None) for score in known]
    if any(value is not None for value in chance):
        table.add_row("chance (mask share)", *(NONE if one is None else _short(one) for one in chance), style="dim")
    return table


def _why(ranking: Ranking, checks: Mapping[str, Checks], foot: Sequence[str]) -> Table:
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    known = {score: head for score, head in WHY.items() if score in ranking.scores}
    complete = any(one.completeness is not None for one in checks.values())
    tested = any(one.passes is not None for one in checks.values())
    timed = SECONDS in ranking.scores
    heads = [*known.values(), *["error"] * complete, *["random"] * tested, *["s/map"] * timed]
    said = "; ".join(meaning for head, meaning in MEANINGS.items() if head in heads)
    table = _table("\n".join(part for part in (said, "; ".join(part for part in foot if part)) if part))
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    methods, controls = _split(ranking, {*known, SECONDS})
    for method in [*methods, *controls]:
        check = checks.get(method, Checks())
        line = _line([cells.get((method, score)) for score in known], known)
        line += [NONE if check.completeness is None else f"{check.completeness:.1%}"] * complete
        line += [{None: NONE, True: "passes", False: "[not dim bold red]FAILS[/]"}[check.passes]] * tested
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
    """Methods with any of these scores, and controls, the best first."""
    shown = {entry.method for score in scores for entry in ranking.of(score)}
    own = [method for method in ranking.methods if method in shown]
    return [one for one in own if not one.startswith(CONTROL)], [one for one in own if one.startswith(CONTROL)]


def _line(entries: Sequence[MethodRow | None], known: Mapping[str, str]) -> list[str]:
    return [_cell(one, interval=head not in BARE) for one, head in zip(entries, known.values(), strict=True)]


def _cell(entry: MethodRow | None, *, interval: bool = True) -> str:
    if entry is None:
        return NONE
    star = " " if entry.clear or entry.method.startswith(CONTROL) else "*"
    fine = entry.score in WHERE  # chance is a small share there
    return f"{_short(entry.value, fine=fine)}{star}" + (_bounds(entry.low, entry.high, fine=fine) if interval else "")


def _untrained(entry: MethodRow | None) -> str:
    if entry is None or entry.untrained is None:
        return NONE
    return f"{_short(entry.untrained)} {_bounds(entry.untrained_low, entry.untrained_high)}"


def _bounds(low: float | None, high: float | None, *, fine: bool = True) -> str:
    return "" if low is None or high is None else rf"\[{_short(low, fine=fine)},{_short(high, fine=fine)}]"


def _short(value: float, *, fine: bool = True) -> str:
    """Two decimals, or three of what is small; without the leading zero, for width."""
    digits = 3 if fine and 0 < abs(value) < 0.0995 else 2
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0 makes a negative zero a plain one
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-").startswith("0.") else text


def explanation_section(
    *,
    rows: Iterable[Mapping[str, Any]] = (),
    failures: Mapping[str, Sequence[str]] | None = None,
    figures: Mapping[str, Figure | Path] | None = None,
    pictures: Mapping[str, Path] | None = None,
    limit: int = 12,
    note: str = "",
    phantom: bool = False,
    heading: str = "Explanations",
) -> Section:
    """Put together the section: failed checks first, then the scores with their floors, then pictures.

    Args:
        rows: scores as `seewhy.figures.explanations.ranking.ranking_figure` takes them.
        failures: method → what its maps failed, in words.
        figures: caption → ranking, summary, shares; all are shown.
        pictures: caption → picture of a sample; they are embedded, so only the first ones are shown.
        limit: most pictures of samples.
        note: what the numbers rest on; under the table.
        phantom: whether the data are synthetic; the table's caption says so.
        heading: of the section.

    Raises:
        ValueError: there is nothing to show.
        FileNotFoundError: when the report is written, for a picture that is not there.
    """
    blocks: list[Block] = [
        Text(f"{method_label(method)}: {'; '.join(reasons)}. Its maps are marked and are not to be read as findings.")
        for method, reasons in (failures or {}).items()
        if reasons
    ]
    ranking = read_ranking(rows)
    if ranking.entries:
        blocks.append(_table_section(ranking, failures or {}, note=note, phantom=phantom))
    blocks += [Picture(source, caption) for caption, source in (figures or {}).items()]
    chosen = list((pictures or {}).items())
    blocks += [Picture(path, caption) for caption, path in chosen[:limit]]
    rest = len(chosen) - limit
    if rest > 0:
        more = "1 more picture is" if rest == 1 else f"{rest} more pictures are"
        blocks.append(Text(f"{more} in the folder explanations of the run."))
    if not blocks:
        raise ValueError("no scores and no pictures of explanations to report")
    return Section(heading, blocks)


def _table_section(ranking: Ranking, failures: Mapping[str, Sequence[str]], *, note: str, phantom: bool) -> ReportTable:
    """Methods by scores, best methods first, and a last line with the floors that are the same for all."""
    cells = {(entry.method, entry.score): entry for entry in ranking.entries}
    lines = [
        [method_label(method) + (" (failed a check)" if failures.get(method) else "")]
        + [_cell_section(cells.get((method, score))) for score in ranking.scores]
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
    told = ["methods by mean rank", star, note, "PHANTOM data, not patients" if phantom else ""]
    arrows = ["↑" if all(entry.higher for entry in ranking.of(score)) else "↓" for score in ranking.scores]
    columns = ["", *(f"{score} {arrow}" for score, arrow in zip(ranking.scores, arrows, strict=True))]
    return ReportTable(columns=columns, rows=lines, caption="; ".join(part for part in told if part), quiet=quiet)


def _cell_section(entry: MethodRow | None) -> str:
    if entry is None:
        return NONE
    interval = "" if entry.low is None or entry.high is None else f" [{entry.low:.2g}, {entry.high:.2g}]"
    untrained = "" if entry.untrained is None else f"; re {entry.untrained:.2g}"
    return f"{entry.value:.3g}{interval}{untrained}" + ("" if entry.clear else " *")
