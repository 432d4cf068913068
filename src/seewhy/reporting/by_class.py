"""Localisation of maps by true class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.io.atomic import write_csv
from seewhy.metrics.map_ranking import rank_methods
from seewhy.reporting.score_names import CHANCE
from seewhy.reporting.tables import format_method, name_class

__all__ = ["write_class_table"]

Row = dict[str, Any]


def write_class_table(path: Path, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Write `ranking_by_class.csv`: pointing, energy and AUPRC of each method in the cases of each true class.

    Args:
        path: the file.
        records: with `judged` scores; each target of a method counts as a method.

    Returns:
        The rows: means over patients with their intervals, and `mask_share`, the level of chance. Empty, without a
        file, if fewer than two classes have annotated cases.
    """
    groups: dict[str, list[Row]] = {}
    for record in sorted(records, key=lambda record: str(record["label"])):
        judged = record["judged"]
        if isinstance(record["label"], int) and judged and judged.get("energy") is not None:
            row = {"id": record["id"], "patient": record["patient"], "method": format_method(record)}
            scores = {name: judged[name] for name in (*CHANCE, "mask_share")}
            groups.setdefault(name_class(record), []).append(row | scores)
    if len(groups) < 2:
        return []
    result = []
    for name, group in groups.items():
        for ranked in rank_methods(group, scores=dict.fromkeys(CHANCE, True)):
            own = [row for row in group if row["method"] == ranked.method]
            share = sum(row["mask_share"] for row in own) / len(own)
            row = {"class": name, "method": ranked.method, "samples": len(own), "mask_share": share}
            for score in CHANCE:
                interval = ranked.intervals.get(score)
                row |= {score: ranked.scores.get(score), f"{score}_low": interval.low if interval else None}
                row |= {f"{score}_high": interval.high if interval else None}
            result.append(row)
    write_csv(path, result, columns=list(result[0]))
    return result
