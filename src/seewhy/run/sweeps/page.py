"""End of a sweep: its table, figure and page, printed with their paths."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seewhy.errors import ConfigError, SeewhyError
from seewhy.figures.style import use_figure_options
from seewhy.figures.sweep import Setting, measure_importance
from seewhy.metrics.direction import find_mode
from seewhy.run.figure_files import read_figure_options
from seewhy.run.pages.run_page import find_page
from seewhy.run.records import read_results
from seewhy.run.sweeps.table import REPLICATES, find_varied, setting_of, write_table

__all__ = ["finish_sweep"]

LOGGER = logging.getLogger(__name__)

HEADLINES = ("/dice", "/auprc", "/auroc", "/balanced_accuracy", "/accuracy", "/mae", "/ssim", "/psnr")
"""Endings of the test scores that are shown; `sweep.csv` has all."""
MOST_COMPARED = 8
"""Members whose explanations are compared."""
MOST = 4
"""Test scores in the tables on the terminal and on the page."""


def finish_sweep(folder: Path, config: DictConfig, goals: Mapping[str, str] | None = None) -> None:
    """Write `sweep.csv`, `sweep.png` and `sweep.html`, print the table, and pool folds if the sweep is over folds.

    Problems of damaged members are logged, so that they do not hide why a sweep has ended.

    Args:
        folder: of the sweep; nothing is written if it has no member.
        config: of the sweep, for the options of figures.
        goals: objective → `minimize` or `maximize`; without it, names of scores tell.
    """
    try:
        rows = write_table(folder)
        if rows:
            with use_figure_options(read_figure_options(config)):
                _write_page(folder, rows, goals or {})
        if len({row.get("data.fold") for row in rows}) > 1:
            _pool_folds(folder)
    except SeewhyError as error:
        LOGGER.warning("the sweep %s has no page: %s", folder, error)


def _write_page(folder: Path, rows: Sequence[Mapping[str, Any]], goals: Mapping[str, str]) -> None:
    """Write figure and page, and print the table."""
    from seewhy.figures.report.blocks import Picture, Section
    from seewhy.figures.report.page import write_report
    from seewhy.figures.style import write_figure
    from seewhy.figures.sweep import sweep_figure

    complete = [row for row in rows if row["state"] == "COMPLETE" and "objective" in row]
    objective = Counter(row["objective_name"] for row in complete).most_common(1)[0][0] if complete else None
    complete = [row for row in complete if row["objective_name"] == objective]
    varied = find_varied(rows)
    higher = objective is not None and _is_higher_better(objective, goals)
    settings = _group_settings(complete, varied)
    phantom = any(read_results(folder / row["member"]).get("phantom") for row in complete)
    ranked = sorted(complete, key=lambda row: -row["objective"] if higher else row["objective"])
    choice = _describe_choice(objective, higher, ranked)
    sections = [Section("Result", [_to_text(choice)])]
    if settings and objective is not None:
        options = {name: [str(row.get(name, "")) for row in complete] for name in varied}
        importance = measure_importance(options, [row["objective"] for row in complete])
        title = str(folder.name if folder.parent.name == "" else f"{folder.parent.name}/{folder.name}")
        figure = sweep_figure(
            list(settings.values()), importance, objective=objective, higher=higher, title=title, phantom=phantom
        )
        write_figure(folder / "sweep.png", figure)
        sections.append(Section("Settings and their spread", [Picture(folder / "sweep.png")]))
        sections.append(Section("Settings", [_setting_table(settings, objective, higher)]))
    sections.append(
        Section("Members", [_member_table(folder, [*ranked, *(row for row in rows if row not in complete)], varied)])
    )
    sections += _compare_explanations(folder, complete)
    failed = [f"Member {row['member']} failed: {row.get('error', '')}" for row in rows if row["state"] == "FAIL"]
    facts = {"written": datetime.now().isoformat(timespec="seconds"), **_count_states(rows)}
    warnings = ["Phantom data: these patients are synthetic."] * phantom + failed[:20]
    write_report(folder / "sweep.html", title=f"Sweep {folder.name}", sections=sections, facts=facts, warnings=warnings)
    _print(rows, ranked, varied, choice, folder)


def _compare_explanations(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Section on the agreement of explanations between members, and `agreement.csv`; empty if nothing is in common."""
    from seewhy.reporting.agreement import agreement_section, compare_trainings, write_agreement

    runs = [folder / row["member"] for row in rows if (folder / row["member"] / "explanations" / "records").is_dir()]
    if len(runs) < 2:
        return []
    try:
        results = compare_trainings(runs[:MOST_COMPARED])
    except SeewhyError as error:  # folds, which have no case in common, or other image sizes
        LOGGER.info("explanations of the sweep are not compared: %s", error)
        return []
    write_agreement(folder / "agreement.csv", results)
    return [agreement_section(results)]


def _is_higher_better(objective: str, goals: Mapping[str, str]) -> bool:
    """Return whether a higher objective is better: by the search, or by its name."""
    if objective in goals:
        return goals[objective] == "maximize"
    try:
        return find_mode(objective) == "max"
    except ConfigError:
        return True


def _group_settings(rows: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> dict[tuple[str, ...], Setting]:
    """Group members that differ only by seed or fold."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        groups.setdefault(setting_of(row, varied), []).append(row["objective"])
    names = [name for name in varied if name not in REPLICATES]
    return {key: Setting(_name_setting(names, key), values) for key, values in groups.items()}


def _name_setting(names: Sequence[str], values: Sequence[str]) -> str:
    """Name a setting by its options; their last part is enough where it is unique."""
    short = _shorten_names(names)
    return ", ".join(f"{name}={_shorten(value)}" for name, value in zip(short, values, strict=True)) or "all members"


def _shorten_names(names: Sequence[str]) -> list[str]:
    """Return the last parts of names of options, where they are unique."""
    leaves = [name.rpartition(".")[2] for name in names]
    return [leaf if leaves.count(leaf) == 1 else name for leaf, name in zip(leaves, names, strict=True)]


def _shorten(value: str) -> str:
    """Shorten a number for a table."""
    try:
        number = float(value)
    except ValueError:
        return value
    return value if value.lstrip("-").isdigit() or not math.isfinite(number) else f"{number:.4g}"


def _describe_choice(objective: str | None, higher: bool, ranked: Sequence[Mapping[str, Any]]) -> str:
    """Say which member is best, by which score of which split."""
    if objective is None or not ranked:
        return "No member is complete, so none was chosen."
    split = "the test split, so its value is no longer a test" if objective.startswith("test/") else (
        "the validation split, with the best checkpoint of each member; test scores took no part"
    )  # fmt: skip
    best = ranked[0]
    return (
        f"Member {best['member']} has the {'highest' if higher else 'lowest'} {objective} ({best['objective']:.4g}). "
        f"Members were compared on {split}."
    )


def _to_text(text: str) -> Any:
    from seewhy.figures.report.blocks import Text

    return Text(text)


def _setting_table(settings: Mapping[tuple[str, ...], Setting], objective: str, higher: bool) -> Any:
    """Table of the settings, best first."""
    from seewhy.figures.report.blocks import ReportTable

    ranked = sorted(settings.values(), key=lambda setting: -setting.mean if higher else setting.mean)
    if all(len(item.values) == 1 for item in ranked):
        return ReportTable(["setting", objective], [[item.name, f"{item.mean:.4g}"] for item in ranked])
    rows = [
        [
            item.name,
            f"{item.mean:.4g}",
            "" if math.isnan(item.standard_deviation) else f"{item.standard_deviation:.2g}",
            str(len(item.values)),
        ]
        for item in ranked
    ]
    return ReportTable(["setting", f"mean {objective}", "standard deviation", "members"], rows)


def _member_table(folder: Path, rows: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> Any:
    """Table of the members for the page; their names lead to their reports."""
    from seewhy.figures.report.blocks import ReportTable

    columns = _list_columns(rows, varied)
    cells = [[_format(row.get(name, "")) for name in columns] for row in rows]
    caption = "sweep.csv has all scores; objectives of the validation chose, test scores are of the best checkpoint"
    pages = [find_page(folder, str(row["member"])) for row in rows]
    return ReportTable(columns, cells, caption, quiet=[row["state"] != "COMPLETE" for row in rows], pages=pages)


def _list_columns(rows: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> list[str]:
    """Columns of a table of members."""
    present = {key for row in rows for key in row}
    tests = [key for row in rows for key in row if key.startswith("test/") and key.endswith(HEADLINES)]
    tests = [key for key in dict.fromkeys(tests) if not any(word in key for word in ("floor", "ideal"))]
    tests = sorted(tests, key=lambda key: next(i for i, ending in enumerate(HEADLINES) if key.endswith(ending)))[:MOST]
    return [*(name for name in ("member", "state", *varied, "objective") if name in present), *tests]


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _shorten(str(value))


def _count_states(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Count the members by state."""
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running or interrupted"}
    counts = Counter(row["state"] for row in rows)
    return {"members": str(len(rows)), **{names[state]: str(counts[state]) for state in names if counts[state]}}


def _print(
    rows: Sequence[Mapping[str, Any]],
    ranked: Sequence[Mapping[str, Any]],
    varied: Sequence[str],
    choice: str,
    folder: Path,
) -> None:
    """Print the members, best first, with the options that varied and the main scores."""
    from rich.console import Console
    from rich.table import Table

    others = [row for row in rows if row not in ranked]
    counts = ", ".join(f"{count} {name}" for name, count in _count_states(rows).items() if name != "members")
    table = Table(title=f"{len(rows)} members ({counts}); scores of the test", caption=choice, caption_justify="left")
    console, columns, shown = Console(), _list_columns(rows, varied), [*ranked, *others]
    while columns[-1].startswith("test/") and _count_letters(columns, shown) > console.width:
        columns.pop()
    for name in _shorten_names(columns):
        table.add_column(_break_heading(name), overflow="fold")
    for row in shown:
        table.add_row(*(_format(row.get(name, "")) for name in columns))
    console.print(table)
    for row in others:
        if row["state"] == "FAIL":
            console.print(f"member {row['member']} failed: {row.get('error', '')}", highlight=False, markup=False)
    for name in ("sweep.csv", "sweep.png", "sweep.html"):
        if (folder / name).is_file():
            console.print(f"  {folder / name}", highlight=False, soft_wrap=True)


def _break_heading(name: str) -> str:
    return name.removeprefix("test/").replace("/", "\n")


def _count_letters(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> int:
    """Width of the table on the terminal with all numbers on one line; a column has a border and two spaces."""
    widths = [
        max(len(text) for text in [*_break_heading(short).split("\n"), *(_format(row.get(name, "")) for row in rows)])
        for name, short in zip(columns, _shorten_names(columns), strict=True)
    ]
    return sum(width + 3 for width in widths) + 1


def _pool_folds(folder: Path) -> None:
    """Pool the folds of a classification; other sweeps are not an error."""
    from seewhy.run.sweeps.pooling import pool_folds, print_pooled, read_members

    try:
        if read_members(folder):
            print_pooled(pool_folds(folder), folder)
    except SeewhyError as error:
        LOGGER.warning("the folds are not pooled: %s", error)
