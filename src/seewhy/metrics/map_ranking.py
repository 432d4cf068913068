"""Ranking of explanation methods over a data set, with intervals by patient and the floors among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seewhy.errors import DataError
from seewhy.metrics.bootstrap import Interval, bootstrap_difference, bootstrap_interval

__all__ = ["HIGHER", "Ranked", "rank_methods"]

HIGHER = {
    "pointing": True,
    "energy": True,
    "auprc": True,
    "iou": True,
    "deletion_gap": True,
    "insertion_gap": True,
    "deletion_gap_blurred": True,
    "insertion_gap_blurred": True,
    "stability_noise": True,
    "effect_agreement": True,
}
"""Scores that rank, and whether more is better. Those of the maps alone (shares) or of one method (completeness)
do not compare methods; the randomisation test is passed or not."""
FLOOR = "control_"


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One method of the table.

    Attributes:
        method: its name.
        floor: whether it knows nothing of the network.
        samples: rows it has.
        mean_rank: mean over the scores of its place among all methods, 1 is best; ties share theirs.
        scores: score → mean over patients; NaN where no patient has it.
        intervals: score → its interval, by patient; missing with fewer than three patients.
        above_floor: score → difference to the best floor, patient by patient, with its interval; positive is better
            whichever way the score points. Missing for floors, without floors and with fewer than three patients.
    """

    method: str
    floor: bool
    samples: int
    mean_rank: float
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    above_floor: Mapping[str, Interval] = field(default_factory=dict)

    def row(self) -> dict[str, float | int | str | bool | None]:
        """A flat row for a table: each score with `_low`, `_high` and `_above_floor`."""
        flat: dict[str, float | int | str | bool | None] = {
            "method": self.method,
            "floor": self.floor,
            "samples": self.samples,
            "mean_rank": self.mean_rank,
        }
        for name, mean in self.scores.items():
            interval, gap = self.intervals.get(name), self.above_floor.get(name)
            flat[name] = None if math.isnan(mean) else mean
            flat[f"{name}_low"] = interval.low if interval else None
            flat[f"{name}_high"] = interval.high if interval else None
            flat[f"{name}_above_floor"] = gap.mean if gap else None
            flat[f"{name}_above_floor_low"] = gap.low if gap else None
        return flat


def rank_methods(
    rows: Iterable[Mapping[str, Any]],
    *,
    scores: Mapping[str, bool] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Ranked]:
    """Rank methods by their scores on the same samples, best first.

    A patient counts once: the mean of its samples. Scores that nobody has are left out.

    Args:
        rows: one per sample and method, with `method`, `patient` and scores; None and NaN are unknown. Samples are
            told apart by `id` where rows have one.
        scores: name → whether higher is better; None takes `HIGHER`.
        resamples: of the bootstrap.
        confidence: of the intervals.
        seed: of the bootstrap.

    Raises:
        DataError: no rows, rows without method or patient, or a sample twice for a method.
    """
    table = _checked(rows)
    known = HIGHER if scores is None else scores
    used = {name: up for name, up in known.items() if any(_known(row.get(name)) for row in table)}
    methods = list(dict.fromkeys(str(row["method"]) for row in table))
    patients = list(dict.fromkeys(str(row["patient"]) for row in table))
    values = {name: _by_patient(table, methods, patients, name) for name in used}
    means = {name: np.array([_mean(line) for line in grid]) for name, grid in values.items()}
    ranks = _mean_ranks(means, used, len(methods))
    ranked = []
    for position, method in enumerate(methods):
        options = {"resamples": resamples, "confidence": confidence, "seed": seed}
        own = {name: grid[position] for name, grid in values.items()}
        intervals = {name: bootstrap_interval(line, **options) for name, line in own.items()}  # type: ignore[arg-type]
        gaps = {}
        for name, up in used.items():
            floor = _best_floor(methods, means[name], up)
            if floor is not None and not method.startswith(FLOOR):
                pair = (own[name], values[name][floor]) if up else (values[name][floor], own[name])
                gaps[name] = bootstrap_difference(*pair, **options)  # type: ignore[arg-type]
        ranked.append(
            Ranked(
                method=method,
                floor=method.startswith(FLOOR),
                samples=sum(row["method"] == method for row in table),
                mean_rank=float(ranks[position]),
                scores={name: float(means[name][position]) for name in used},
                intervals={name: one for name, one in intervals.items() if one is not None},
                above_floor={name: one for name, one in gaps.items() if one is not None},
            )
        )
    return sorted(ranked, key=lambda one: (math.isnan(one.mean_rank), one.mean_rank, one.method))


def _checked(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    table = list(rows)
    problems = [] if table else ["no rows to rank; explain at least one sample"]
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(table):
        lacking = [name for name in ("method", "patient") if not row.get(name)]
        if lacking:
            problems.append(f"row {number} has no {' and no '.join(lacking)}")
        elif row.get("id"):
            key = (str(row["method"]), str(row["id"]))
            if key in seen:
                problems.append(f"row {number}: sample {key[1]!r} is there twice for {key[0]!r}")
            seen.add(key)
    if problems:
        raise DataError(problems, where="ranking")
    return table


def _by_patient(table: Sequence[Mapping[str, Any]], methods: list[str], patients: list[str], score: str) -> np.ndarray:
    """[methods, patients] mean of a patient's samples; NaN where there is none."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in table:
        if _known(row.get(score)):
            found.setdefault((str(row["method"]), str(row["patient"])), []).append(float(row[score]))
    return np.array([[_mean(np.array(found.get((m, p), []))) for p in patients] for m in methods])


def _mean_ranks(means: Mapping[str, np.ndarray], used: Mapping[str, bool], count: int) -> np.ndarray:
    """[methods] mean place; a method without a score takes no place in it."""
    places = np.full((len(used), count), np.nan)
    for line, (name, up) in zip(places, used.items(), strict=True):
        values = -means[name] if up else means[name]
        for position, value in enumerate(values):
            if np.isfinite(value):
                line[position] = 1 + (values < value).sum() + ((values == value).sum() - 1) / 2
    return np.array([_mean(column) for column in places.T])


def _best_floor(methods: list[str], means: np.ndarray, up: bool) -> int | None:
    floors = [i for i, method in enumerate(methods) if method.startswith(FLOOR) and np.isfinite(means[i])]
    return max(floors, key=lambda i: means[i] if up else -means[i]) if floors else None


def _known(value: Any) -> bool:
    return value is not None and not math.isnan(float(value))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
