"""Scores of explanation methods in one member of a benchmark: by the known evidence, and by what knows no mask."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.io.documents import read_json
from seewhy.metrics.agreement import average_ranks_of
from seewhy.metrics.map_ranking import FLOOR
from seewhy.reporting.store import ExplanationStore

__all__ = ["ORDERS", "TRUTH", "MethodScores", "order_methods", "read_scores"]

TRUTH = ("auprc", "pointing", "energy")
"""Scores by the known evidence; the first one orders the methods."""
TUNED = ("deletion_gap_tuned", "insertion_gap_tuned")
BLURRED = ("deletion_gap_blurred_tuned", "insertion_gap_blurred_tuned")
PLAIN = ("deletion_gap", "insertion_gap")
FAITHFUL = (*TUNED, *BLURRED, *PLAIN)
ORDERS = {
    "verdicts and curves": "methods that pass the verdicts first, then by deletion and insertion of the tuned copy",
    "verdicts": "methods that pass the verdicts before those that do not",
    "curves, tuned": "deletion and insertion as a copy of the network tuned on masked images sees them",
    "curves, tuned, blurred": "the same next to noise as smooth as the map",
    "curves": "deletion and insertion by the network itself",
}
"""Orders that need no mask; the first one is the benchmark's."""


@dataclass(frozen=True)
class MethodScores:
    """Scores of one method in one member.

    Attributes:
        method: its name.
        passes: whether it passes the verdicts; None if a verdict is not possible. Controls fail, since they do not use
            the network.
        values: score → mean over cases; scores by the known evidence are over cases that were predicted right.
    """

    method: str
    passes: bool | None
    values: Mapping[str, float]

    @property
    def is_control(self) -> bool:
        """Whether the maps are made without the network."""
        return self.method.startswith(FLOOR)


class _Listed(TypedDict):
    """Entries of `explanations.json` that are read here."""

    explanations: list[dict[str, Any]]
    verdicts: dict[str, dict[str, Any] | None]
    refused: list[str]


def read_scores(folder: Path) -> list[MethodScores]:
    """Read the scores of all methods and controls of a run.

    Args:
        folder: of the run.

    Raises:
        DataError: no explanations, or none that were judged by masks.
    """
    listed: Any = read_json(folder / "explanations" / "explanations.json", _Listed)
    store = ExplanationStore(folder / "explanations")
    right = {row["id"]: row["label"] is not None and _is_right(row) for row in listed["explanations"]}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in listed["explanations"]:
        rows[row["method"]].append({**row["judged"], "id": row["id"]})
    for case in right:
        for scores in store.floors(case):
            rows[scores["method"]].append(scores)
    found = []
    for method, own in rows.items():
        verdict = listed["verdicts"].get(method)
        passes = False if method.startswith(FLOOR) else None if verdict is None else verdict.get("passes")
        passes = False if verdict and verdict["failures"] else passes
        values = {name: _mean([row.get(name) for row in own]) for name in FAITHFUL}
        values |= {name: _mean([row.get(name) for row in own if right[row["id"]]]) for name in TRUTH}
        found.append(MethodScores(method, passes, values))
    if not any(math.isfinite(one.values[TRUTH[0]]) for one in found):
        raise DataError(f"{folder / 'explanations'} has no map that was judged by a mask")
    return found


def order_methods(scores: Sequence[MethodScores], order: str) -> list[float]:
    """Score methods by one of `ORDERS`; higher is better, NaN if they have no order.

    Args:
        scores: of one member.
        order: name of the order.

    Example:
        >>> from seewhy.run.benchmark.scores import MethodScores, order_methods
        >>> curves = [{"deletion_gap_tuned": d, "insertion_gap_tuned": d} for d in (0.1, 0.3, 0.2)]
        >>> scores = [MethodScores(n, n != "b", c) for n, c in zip("abc", curves)]
        >>> order_methods(scores, "curves, tuned"), order_methods(scores, "verdicts and curves")
        ([0.0, 1.0, 0.5], [2.0, 1.0, 2.5])
    """
    passes = [float(one.passes is True) for one in scores]
    if order == "verdicts":
        return passes
    columns = {"curves": PLAIN, "curves, tuned, blurred": BLURRED}.get(order, TUNED)
    table = np.array([[one.values.get(name, math.nan) for one in scores] for name in columns])
    ranks = average_ranks_of(table)
    if order == "verdicts and curves":
        ranks = 2 * np.array(passes) + ranks
    return [float(value) for value in ranks]


def _is_right(row: Mapping[str, Any]) -> bool:
    """Return whether the class of a case was predicted right."""
    label, predicted = row["label"], row["predicted"]
    return int(label[0] if isinstance(label, list) else label) == int(predicted)


def _mean(values: Sequence[Any]) -> float:
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
