"""What is said of a session's explanations in the terminal: tables with floors, shares of inputs, and paths.

Explanations on a page: the section of the run's report, and a page of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console

from seewhy.figures.report import Section

__all__ = ["explanation_page", "print_explanations", "section_of"]

PICTURES = 12
"""Samples on the page."""


def section_of(found: Mapping[str, Any]) -> Section:
    """The section of what `seewhy.reporting.finish` found.

    Args:
        found: its result, with at least one record.
    """
    from seewhy.figures.explanations.tables import explanation_section

    folder: Path = found["folder"]
    figures = dict(found["figures"])
    if (folder / "ranking.png").is_file() and found["ranking"]:
        figures = {"Methods beside each other": folder / "ranking.png", **figures}
    patients = len({record["patient"] for record in found["records"]})
    return explanation_section(
        rows=found["ranking"],
        failures=found["failures"],
        figures=figures,
        pictures=_pictures(found),
        limit=PICTURES,
        note=f"{patients} patients, 95 % bootstrap intervals by patient" if found["ranking"] else "",
        phantom=bool(found["records"][0]["phantom"]),
    )


def explanation_page(found: Mapping[str, Any]) -> Path:
    """Write `report.html` beside the explanations."""
    from seewhy.figures.report import write_report

    first = found["records"][0]
    warnings = [f"No map, for the method refused: {line}" for line in found["refused"]]
    if first["phantom"]:
        warnings.insert(0, "Phantom data: these patients are synthetic, and the scores say nothing about real ones.")
    path: Path = found["folder"] / "report.html"
    facts = {"checkpoint": str(first["checkpoint"]), "sha256": str(first["sha256"])[:16]}
    write_report(path, title="Explanations", sections=[section_of(found)], facts=facts, warnings=warnings)
    return path


def _pictures(found: Mapping[str, Any]) -> dict[str, Path]:
    """Caption → picture, the methods in turn, so that the first few show all of them."""
    by_method: dict[str, list[tuple[str, Path]]] = {}
    for record in found["records"]:
        named = [name for name in record["pictures"] if name.endswith(("_visualization.png", "_summary.png"))]
        caption = f"{record['id']}, {record['method']}, explained: {record['target_name']}"
        by_method.setdefault(record["method"], []).append((caption, found["folder"] / named[0]))
    longest = max(map(len, by_method.values()))
    return dict(own[place] for place in range(longest) for own in by_method.values() if place < len(own))


FILES = ("report.html", "ranking.png", "ranking.csv", "scores.csv", "attribution_statistics.csv", "explanations.json")


def print_explanations(found: Mapping[str, Any], console: Console) -> None:
    """Print what `seewhy.reporting.finish` found.

    Args:
        found: its result on the first process.
        console: where to.
    """
    from seewhy.figures.explanations.tables import explanation_tables, share_table

    folder: Path = found["folder"]
    records = found["records"]
    if records:
        phantom = bool(records[0]["phantom"])
        patients = len({record["patient"] for record in records})
        note = f"{found['samples']} samples of {patients} patients; 95 % bootstrap intervals by patient"
        for table in explanation_tables(found["ranking"], checks=_checks(found), note=note, phantom=phantom):
            console.print(table)
            console.print()
        if len(records[0]["shares"]) > 1:
            console.print(share_table(_shares(records), _effects(records), phantom=phantom))
            console.print()
    for method, reasons in found.get("failures", {}).items():
        for reason in reasons:
            console.print(f"[bold red]{method}[/]: {reason}", highlight=False)
    for line in found["refused"]:
        console.print(f"no map: {line}", highlight=False, markup=False)
    console.print(f"explanations of {found['samples']} samples: [bold]{folder}[/]", highlight=False, soft_wrap=True)
    written = [name for name in FILES if (folder / name).is_file()]
    if written:
        console.print(f"  {', '.join(written)}", highlight=False, soft_wrap=True)


def _checks(found: Mapping[str, Any]) -> dict[str, Any]:
    """Method → the verdict of its randomisation test, and its median completeness error."""
    from seewhy.figures.explanations.tables import Checks

    errors: dict[str, list[float]] = {}
    for record in found["records"]:
        if record["completeness"] is not None:
            errors.setdefault(_name(record), []).append(record["completeness"])
    names = dict.fromkeys(map(_name, found["records"]))
    verdicts = found["verdicts"]
    return {
        name: Checks(
            passes=(verdicts.get(name) or {}).get("passes"),
            completeness=median(errors[name]) if name in errors else None,
        )
        for name in names
    }


def _shares(records: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Method → input → mean share over samples."""
    kept: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for name, share in record["shares"].items():
            kept.setdefault(_name(record), {}).setdefault(name, []).append(share)
    return {method: {name: mean(values) for name, values in own.items()} for method, own in kept.items()}


def _effects(records: list[dict[str, Any]]) -> dict[str, float]:
    """Input → mean fall of the target's probability without it, which is the same for all methods of a target."""
    kept: dict[str, list[float]] = {}
    first = _name(records[0])
    for record in records:
        for name in record["shares"]:
            effect = record["judged"].get(f"effect_{name}")
            if effect is not None and _name(record) == first:
                kept.setdefault(name, []).append(effect)
    return {name: mean(values) for name, values in kept.items()}


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['method']}/{record['folder']}" if record["folder"] else str(record["method"])
