"""Methods beside each other: one table and one plot over all samples, with the floors among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.io.atomic import write_csv
from seewhy.metrics.map_ranking import HIGHER, Ranked, rank_methods

__all__ = ["ranking_rows", "write_ranking"]

Record = Mapping[str, Any]
NAMES = {
    "pointing": "pointing game",
    "energy": "energy inside the mask",
    "auprc": "AUPRC",
    "iou": "IoU at the validation's threshold",
    "deletion_gap": "deletion, gap to random order",
    "insertion_gap": "insertion, gap to random order",
    "deletion_gap_blurred": "deletion, gap to blurred noise",
    "insertion_gap_blurred": "insertion, gap to blurred noise",
    "stability_noise": "stability under noise",
    "effect_agreement": "agreement with left-out inputs",
}
CHANCE = ("pointing", "energy", "auprc")
"""Scores for which chance reaches the mask's share of the area."""


def write_ranking(
    folder: Path, records: Sequence[Record], floors: Sequence[Record], *, title: str, phantom: bool
) -> list[dict[str, Any]]:
    """Write `scores.csv` (a row per sample and method), `ranking.csv` and `ranking.png`.

    Args:
        folder: of the explanations.
        records: with `judged` scores; those of several targets of a method count as methods of their own.
        floors: scores of the floors, a row per sample and floor.
        title: of the plot.
        phantom: whether the data are synthetic.

    Returns:
        One row per method and score, as `seewhy.figures.ranking` draws them; empty where nothing was judged.
    """
    rows = [_row(record) for record in records if record["judged"]] + [dict(row) for row in floors]
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(folder / "scores.csv", [{name: row.get(name) for name in columns} for row in rows], columns=columns)
    methods = rank_methods(rows)
    flat = [method.row() for method in methods]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    write_csv(folder / "ranking.csv", [{name: row.get(name) for name in columns} for row in flat], columns=columns)
    shown = ranking_rows(methods, rows)
    if shown:
        from seewhy.figures.ranking import ranking_figure
        from seewhy.figures.style import write_figure

        patients = len({row["patient"] for row in rows})
        note = f"{patients} patients, 95 % bootstrap intervals by patient"
        write_figure(folder / "ranking.png", ranking_figure(shown, title=title, note=note, phantom=phantom))
    return shown


def ranking_rows(methods: Sequence[Ranked], rows: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per method and score: value, interval and what knows nothing reaches."""
    shares = [row["mask_share"] for row in rows if row.get("mask_share") is not None]
    chance = sum(shares) / len(shares) if shares else None
    found = []
    for method in methods:
        for name, value in method.scores.items():
            if value != value:
                continue
            interval = method.intervals.get(name)
            zero = 0.0 if name.endswith(("_gap", "_blurred")) or name == "effect_agreement" else None
            found.append(
                {
                    "method": method.method,
                    "score": NAMES[name],
                    "value": value,
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "floor": chance if name in CHANCE else zero,
                    "higher_is_better": HIGHER[name],
                }
            )
    return found


def _row(record: Record) -> dict[str, Any]:
    target = f"/{record['folder']}" if record["folder"] else ""
    return {**record["judged"], "id": record["id"], "patient": record["patient"], "method": record["method"] + target}
