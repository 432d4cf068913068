"""Rank explanation methods over a data set, with intervals over patients and with the floors among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seewhy.errors import DataError
from seewhy.metrics.bootstrap import EVERYTHING, Interval, bootstrap_difference, bootstrap_interval

__all__ = ["HIGHER", "MethodRank", "finite_mean", "rank_methods"]

HIGHER = {
    "pointing": True,
    "energy": True,
    "auprc": True,
    "iou": True,
    "deletion_gap": True,
    "insertion_gap": True,
    "deletion_gap_blurred": True,
    "insertion_gap_blurred": True,
    "deletion_gap_tuned": True,
    "insertion_gap_tuned": True,
    "deletion_gap_blurred_tuned": True,
    "insertion_gap_blurred_tuned": True,
    "stability_noise": True,
    "effect_agreement": True,
}
"""Score that counts in the ranking → whether higher is better. Scores that describe the map alone (shares) or a single
method (completeness) do not compare methods, and the randomisation test is either passed or failed."""
SHARES = ("pointing", "energy", "auprc", "iou")
"""Scores from 0 to 1; the others are differences and correlations, from -1 to 1."""
FLOOR = "control_"
"""Prefix of the methods that do not use the network."""


@dataclass(frozen=True, kw_only=True)
class MethodRank:
    """Scores and rank of one method.

    Attributes:
        method: name of the method.
        floor: whether it is a floor, which does not use the network.
        samples: number of its rows.
        mean_rank: mean over the scores of its rank among all methods; 1 is best, and ties share a rank.
        scores: score → mean over patients; NaN if undefined for all patients.
        intervals: score → interval over patients; missing with fewer than three patients.
        above_floor: score → paired difference to the best floor with its interval; positive is better for every score.
            Missing for floors, without floors and with fewer than three patients.
    """

    method: str
    floor: bool
    samples: int
    mean_rank: float
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    above_floor: Mapping[str, Interval] = field(default_factory=dict)

    def row(self) -> dict[str, float | int | str | bool | None]:
        """Flat row for a table: each score with `_low`, `_high`, `_above_floor` and `_above_floor_low`."""
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
) -> list[MethodRank]:
    """Rank methods by their scores on the same samples, best first.

    Each patient counts once, with the mean of its samples. Scores that no row defines are left out.

    Args:
        rows: one per sample and method, with `method`, `patient` and scores; None and NaN are undefined. `id`, where
            given, identifies the sample.
        scores: name → whether higher is better; None takes `HIGHER`.
        resamples: number of bootstrap resamples.
        confidence: share of the resampled means inside an interval.
        seed: seed of the bootstrap.

    Raises:
        DataError: no rows, rows without method or patient, or a sample twice for a method.

    Example:
        >>> values = {"grad_cam": [0.9, 0.8, 0.7], "control_random": [0.2, 0.3, 0.1]}
        >>> rows = [
        ...     {"method": method, "patient": f"p{i}", "energy": value}
        ...     for method in values for i, value in enumerate(values[method])
        ... ]
        >>> best, floor = rank_methods(rows)
        >>> best.method, round(best.scores["energy"], 3), round(best.above_floor["energy"].mean, 3)
        ('grad_cam', 0.8, 0.6)
    """
    table = _validate_rows(rows)
    directions = HIGHER if scores is None else scores
    used = {name: up for name, up in directions.items() if any(_is_defined(row.get(name)) for row in table)}
    methods = list(dict.fromkeys(str(row["method"]) for row in table))
    patients = list(dict.fromkeys(str(row["patient"]) for row in table))
    values = {name: _patient_means(table, methods, patients, name) for name in used}
    means = {name: np.array([finite_mean(line) for line in grid]) for name, grid in values.items()}
    ranks = _mean_ranks(means, used, len(methods))
    ranked = []
    for position, method in enumerate(methods):
        options = {"resamples": resamples, "confidence": confidence, "seed": seed}
        limits = {name: (0.0 if name in SHARES else -1.0, 1.0) if name in HIGHER else EVERYTHING for name in used}
        lines = {name: grid[position] for name, grid in values.items()}
        intervals = {
            name: bootstrap_interval(line, limits=limits[name], **options)  # type: ignore[arg-type]
            for name, line in lines.items()
        }
        gaps = {}
        for name, up in used.items():
            floor = _best_floor(methods, means[name], up)
            if floor is not None and not method.startswith(FLOOR):
                pair = (lines[name], values[name][floor]) if up else (values[name][floor], lines[name])
                gaps[name] = bootstrap_difference(*pair, limits=limits[name], **options)  # type: ignore[arg-type]
        ranked.append(
            MethodRank(
                method=method,
                floor=method.startswith(FLOOR),
                samples=sum(row["method"] == method for row in table),
                mean_rank=float(ranks[position]),
                scores={name: float(means[name][position]) for name in used},
                intervals={name: interval for name, interval in intervals.items() if interval is not None},
                above_floor={name: gap for name, gap in gaps.items() if gap is not None},
            )
        )
    return sorted(ranked, key=lambda entry: (math.isnan(entry.mean_rank), entry.mean_rank, entry.method))


def _validate_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    table = list(rows)
    problems = [] if table else ["no rows to rank; explain at least one sample"]
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(table):
        missing = [name for name in ("method", "patient") if not row.get(name)]
        if missing:
            problems.append(f"row {number} has no {' and no '.join(missing)}")
        elif row.get("id"):
            key = (str(row["method"]), str(row["id"]))
            if key in seen:
                problems.append(f"row {number}: sample {key[1]!r} of method {key[0]!r} occurs twice")
            seen.add(key)
    if problems:
        raise DataError(problems, where="ranking")
    return table


def _patient_means(
    table: Sequence[Mapping[str, Any]], methods: list[str], patients: list[str], score: str
) -> np.ndarray:
    """[methods, patients] mean over the samples of a patient; NaN without samples."""
    samples: dict[tuple[str, str], list[float]] = {}
    for row in table:
        if _is_defined(row.get(score)):
            samples.setdefault((str(row["method"]), str(row["patient"])), []).append(float(row[score]))
    return np.array([[finite_mean(np.array(samples.get((m, p), []))) for p in patients] for m in methods])


def _mean_ranks(means: Mapping[str, np.ndarray], used: Mapping[str, bool], count: int) -> np.ndarray:
    """[methods] mean rank over the scores; a method without a score has no rank in it."""
    ranks = np.full((len(used), count), np.nan)
    for line, (name, up) in zip(ranks, used.items(), strict=True):
        values = -means[name] if up else means[name]
        for position, value in enumerate(values):
            if np.isfinite(value):
                line[position] = 1 + (values < value).sum() + ((values == value).sum() - 1) / 2
    return np.array([finite_mean(column) for column in ranks.T])


def _best_floor(methods: list[str], means: np.ndarray, up: bool) -> int | None:
    floors = [i for i, method in enumerate(methods) if method.startswith(FLOOR) and np.isfinite(means[i])]
    return max(floors, key=lambda i: means[i] if up else -means[i]) if floors else None


def _is_defined(value: Any) -> bool:
    return value is not None and not math.isnan(float(value))


def finite_mean(values: np.ndarray) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
