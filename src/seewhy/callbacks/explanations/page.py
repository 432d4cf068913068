"""Explanations on a page: the section of the run's report, and a page of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seewhy.figures.report import Section

__all__ = ["explanation_page", "section_of"]

PICTURES = 12
"""Samples on the page."""


def section_of(found: Mapping[str, Any]) -> Section:
    """The section of what `seewhy.callbacks.explanations.finish` found.

    Args:
        found: its result, with at least one record.
    """
    from seewhy.figures.explanations import explanation_section

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
