"""Scores of explanation methods in one member of a benchmark, and whether its network uses the known evidence."""

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
from seewhy.io.atomic import file_sha256, write_json
from seewhy.io.documents import read_json
from seewhy.metrics.agreement import average_ranks_of
from seewhy.metrics.map_ranking import FLOOR
from seewhy.phantoms.twins import draw_twins
from seewhy.reporting.store import ExplanationStore
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.loading import load

__all__ = [
    "ORDERS",
    "TRUTH",
    "Evidence",
    "MethodScores",
    "check_evidence",
    "order_methods",
    "read_evidence",
    "read_scores",
]

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
FILE = "evidence.json"
"""In the folder of a member."""
ENOUGH = 0.8
"""Smallest share of twins that must be predicted as the known evidence implies."""


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


# -- whether the network uses the evidence --------------------------------------------------------------------


class _Change(TypedDict):
    """Twins with one change."""

    moved: bool
    count: int
    right: int


class _SavedMap(TypedDict):
    """Entries of `evidence.json`."""

    checkpoint: str
    changes: dict[str, _Change]


@dataclass(frozen=True)
class Evidence:
    """Shares of twins that are predicted as the known evidence implies.

    Attributes:
        moved: of twins with other evidence, whose class must change.
        kept: of twins with the same evidence and other looks, whose class must stay; None without such twins.
        changes: change → share.
    """

    moved: float
    kept: float | None
    changes: dict[str, float]

    @property
    def is_used(self) -> bool:
        """Whether the network uses the known evidence, so that the place of the evidence is the truth."""
        return min(self.moved, 1.0 if self.kept is None else self.kept) >= ENOUGH


def check_evidence(folder: Path) -> Evidence:
    """Predict the twins of a run's explained cases, and write `evidence.json`; one of this checkpoint is read.

    Args:
        folder: of the run.

    Raises:
        DataError: a run without explanations, or of another data set than a phantom with twins.
    """
    sha256 = file_sha256(RunFolder(folder).checkpoint(final=False))
    if (folder / FILE).is_file():
        record: Any = read_json(folder / FILE, _SavedMap)
        if record["checkpoint"] == sha256:
            return _summarize(record["changes"])
    listed = read_json(folder / "explanations" / "explanations.json", dict[str, Any])
    cases = list(dict.fromkeys(str(row["id"]) for row in listed["explanations"]))
    model = load(folder, device="cpu")
    twins = draw_twins(str(model.config.data.root), cases)
    images = [
        {name: twin.images.get(name) for name in model.inputs} if isinstance(twin.images, dict) else twin.images
        for twin in twins
    ]
    predictions = model.predict(images, names=[f"twin_{number}" for number in range(len(twins))])
    counts: dict[str, dict[str, Any]] = defaultdict(lambda: {"moved": False, "count": 0, "right": 0})
    for twin, prediction in zip(twins, predictions, strict=True):
        entry = counts[twin.change]
        entry["moved"] = twin.moved
        entry["count"] += 1
        entry["right"] += prediction.predicted == model.classes[twin.label]
    if not any(entry["moved"] for entry in counts.values()):
        raise DataError(f"{folder}: no twin with other evidence; explain more cases (explain.max_samples)")
    write_json(folder / FILE, {"checkpoint": sha256, "changes": dict(counts)})
    return _summarize(counts)


def read_evidence(folder: Path) -> Evidence:
    """Read `evidence.json`.

    Raises:
        DataError: it is missing or damaged.
    """
    record: Any = read_json(folder / FILE, _SavedMap)
    return _summarize(record["changes"])


def _summarize(changes: Any) -> Evidence:
    """Compute shares over all twins of a kind."""

    def share(moved: bool) -> float | None:
        chosen = [entry for entry in changes.values() if entry["moved"] is moved]
        count = sum(entry["count"] for entry in chosen)
        return sum(entry["right"] for entry in chosen) / count if count else None

    each = {name: entry["right"] / entry["count"] for name, entry in changes.items()}
    return Evidence(share(True) or 0.0, share(False), each)
