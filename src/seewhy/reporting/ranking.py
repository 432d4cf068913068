"""Methods beside each other: one table and one plot over all samples, with the floors among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from seewhy.io.atomic import write_csv
from seewhy.metrics.map_ranking import HIGHER, MethodRank, rank_methods

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
"""Scores for which chance reaches the mask's share of the area, and that re-initialised networks have too."""
SECONDS = "seconds per map"


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
        One row per method and score, as `seewhy.figures.explanations.ranking` draws them; empty where nothing was
        judged.
    """
    rows = [_row(record) for record in records if record["judged"]] + [dict(row) for row in floors]
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(folder / "scores.csv", [{name: row.get(name) for name in columns} for row in rows], columns=columns)
    methods, untrained = rank_methods(rows), _untrained(rows)
    flat = [{**method.row(), **_random_columns(untrained.get(method.method))} for method in methods]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    write_csv(folder / "ranking.csv", [{name: row.get(name) for name in columns} for row in flat], columns=columns)
    shown = ranking_rows(methods, rows, untrained) + _times(records)
    if shown:
        from seewhy.figures.explanations.ranking import ranking_figure
        from seewhy.figures.style import write_figure

        patients = len({row["patient"] for row in rows})
        note = f"{patients} patients, 95 % bootstrap intervals by patient"
        write_figure(folder / "ranking.png", ranking_figure(shown, title=title, note=note, phantom=phantom))
    return shown


def ranking_rows(
    methods: Sequence[MethodRank], rows: Sequence[Record], untrained: Mapping[str, MethodRank]
) -> list[dict[str, Any]]:
    """One row per method and score: value, interval, and what knows nothing reaches.

    Args:
        methods: of `rank_methods`.
        rows: that they were made of.
        untrained: method → what its maps of re-initialised networks reach.
    """
    shares = [row["mask_share"] for row in rows if row.get("mask_share") is not None]
    chance = sum(shares) / len(shares) if shares else None
    found = []
    for method in methods:
        for name, value in method.scores.items():
            if value != value:
                continue
            interval, other = method.intervals.get(name), untrained.get(method.method)
            random = other.intervals.get(name) if other else None
            zero = 0.0 if name.endswith(("_gap", "_blurred")) or name == "effect_agreement" else None
            found.append(
                {
                    "method": method.method,
                    "score": NAMES[name],
                    "value": value,
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "floor": chance if name in CHANCE else zero,
                    "untrained": other.scores.get(name) if other else None,
                    "untrained_low": random.low if random else None,
                    "untrained_high": random.high if random else None,
                    "higher_is_better": HIGHER[name],
                }
            )
    return found


def _untrained(rows: Sequence[Record]) -> dict[str, MethodRank]:
    """Method → scores of its maps of re-initialised networks, over the samples of the randomisation test."""
    kept = [
        {**{key: row[key] for key in ("id", "patient", "method")}, **{n: row[f"{n}_random"] for n in CHANCE}}
        for row in rows
        if row.get("pointing_random") is not None
    ]
    return {one.method: one for one in rank_methods(kept)} if kept else {}


def _random_columns(untrained: MethodRank | None) -> dict[str, float | None]:
    """What a method's maps of re-initialised networks reach, for the table of the ranking."""
    columns: dict[str, float | None] = {}
    for name, value in (untrained.scores if untrained else {}).items():
        interval = untrained.intervals.get(name) if untrained else None
        columns[f"{name}_random"] = value
        columns[f"{name}_random_low"] = interval.low if interval else None
        columns[f"{name}_random_high"] = interval.high if interval else None
    return columns


def _times(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Median seconds of a map, which neither the first batch's warming up nor a pause of the machine changes much."""
    times: dict[str, list[float]] = {}
    for record in records:
        if record["judged"] and record.get("seconds") is not None:
            times.setdefault(_name(record), []).append(record["seconds"])
    return [
        {"method": name, "score": SECONDS, "value": median(own), "higher_is_better": False}
        for name, own in times.items()
    ]


def _name(record: Record) -> str:
    return f"{record['method']}/{record['folder']}" if record["folder"] else str(record["method"])


def _row(record: Record) -> dict[str, Any]:
    return {**record["judged"], "id": record["id"], "patient": record["patient"], "method": _name(record)}
