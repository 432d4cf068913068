"""Distances and site probes between harmonised scans and those of the reference scanner, with intervals over heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seewhy.batch import MODALITIES
from seewhy.metrics.bootstrap import bootstrap_interval, percentile_bounds
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.feature_distances import KernelTable, kernel_table
from seewhy.run.translation.evaluation.distances import FeatureSample, build_sample, draw_groups
from seewhy.run.translation.evaluation.probing import run_probes
from seewhy.run.translation.evaluation.recorder import RAW
from seewhy.run.translation.evaluation.settings import EvaluationSettings

__all__ = ["COLUMNS", "REAL", "measure_kid", "measure_probes"]

REAL = "real"
"""Method of the floor: real scans of the reference against those of other heads."""
ENDS = ("", "_low", "_high")
COLUMNS = (
    "method", "status", "phantom", "scanner", "heads", *(f"kid{end}" for end in ENDS),
    *(f"{probe}_{kind}{end}" for probe in ("network", "logistic") for kind in ("frozen", "retrained") for end in ENDS),
)  # fmt: skip
KINDS = {"raw": ("frozen", "retrained"), "frozen": ("frozen",), "retrained": ("retrained",), "floor": ("retrained",)}
"""Kind of a probe → columns; nothing was translated in raw scans, so both are the same."""


def measure_kid(
    scanners: Mapping[str, Sequence[Row]],
    reference: Sequence[Row],
    methods: Sequence[str],
    *,
    standardized: bool,
    settings: EvaluationSettings,
    advance: Callable[[], None] = lambda: None,
) -> dict[tuple[str, str], Row]:
    """Measure KID, mean over modalities, of each method's scans to the reference's.

    Heads, not slices, are the sample: pairs of slices of one head are left out, also between scanners, so that the
    value is unbiased and does not depend on their number. Intervals (95 %) resample heads, all scanners alike.

    Args:
        scanners: scanner → records of its scans, one per head, with features of each method.
        reference: records of the reference's scans, one per head.
        methods: names of the methods.
        standardized: divide features by their spread among the reference's slices.
        settings: of `evaluate`.
        advance: called after each scanner.

    Returns:
        (method, scanner) → `kid`, `kid_low`, `kid_high`; scanner `mean` is the mean over scanners. Of `REAL`, the
        distance between two groups of half of the heads each, the ends contain 95 % of `evaluate.distances.repeats`
        random groups.
    """
    target = build_sample(reference, RAW)
    mean, spread = np.zeros(target.values.shape[1:]), np.ones(target.values.shape[1:])
    if standardized:
        mean, spread = target.values.mean(axis=0), target.values.std(axis=0)
        spread = np.where(spread > 1e-8, spread, 1)
    target = target._replace(values=(target.values - mean) / spread)
    whole: dict[tuple[str, str], float] = {}
    drawn: dict[tuple[str, str], np.ndarray | None] = {}
    for scanner, records in scanners.items():
        for method in methods:
            sample = build_sample(records, method)
            sample = sample._replace(values=(sample.values - mean) / spread)
            tables = _make_tables(sample, target)
            whole[method, scanner] = float(np.mean([table.distance() for table in tables]))
            options = {"resamples": settings.distances.resamples, "seed": settings.seed}
            resampled = [table.resampled(**options) for table in tables]
            known = [values for values in resampled if values is not None]
            drawn[method, scanner] = np.mean(known, axis=0) if len(known) == len(tables) else None
        advance()
    cells = {key: _cell(value, drawn[key]) for key, value in whole.items()}
    for method in methods:
        known = [values for scanner in scanners if (values := drawn[method, scanner]) is not None]
        cells[method, "mean"] = _cell(
            float(np.mean([whole[method, scanner] for scanner in scanners])),
            np.mean(known, axis=0) if len(known) == len(scanners) else None,
        )
    cells[REAL, "mean"] = _measure_floor(target, settings)
    return cells


def _measure_floor(target: FeatureSample, settings: EvaluationSettings) -> Row:
    """Measure the distances between random halves of the reference's heads."""
    names = target.names()
    draws = draw_groups(names, names, repeats=settings.distances.repeats, seed=settings.seed)
    squares = [table.within_second for table in _make_tables(target, target)]
    within = [KernelTable(square, square, square) for square in squares]
    floor = np.asarray([np.mean([table.distance(d.first, d.second) for table in within]) for d in draws])
    return _cell(float(np.mean(floor)), floor)


def _make_tables(sample: FeatureSample, target: FeatureSample) -> list[KernelTable]:
    """Make the table of each modality."""
    owners = (sample.patients, target.patients)
    return [
        kernel_table(sample.values[:, number], target.values[:, number], subjects=owners)
        for number in range(len(MODALITIES))
    ]


def _cell(value: float, values: np.ndarray | None) -> Row:
    ends = None if values is None else percentile_bounds(values)
    low, high = (None, None) if ends is None else ends
    return {"kid": value if np.isfinite(value) else None, "kid_low": low, "kid_high": high}


def measure_probes(
    scanners: Mapping[str, Sequence[Row]],
    reference: Sequence[Row],
    *,
    settings: EvaluationSettings,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[tuple[str, str], Row], str | None]:
    """Measure the balanced accuracy of site probes, with intervals over heads.

    A head's accuracy is the share of its slices that are classified correctly while it is held out: the mean over both
    scanners of the pair, over seeds, and for scanner `mean` over scanners. Chance is 0.5.

    Args:
        scanners: see `measure_kid`.
        reference: see `measure_kid`.
        settings: of `evaluate`.
        advance: called after every training.

    Returns:
        (method, scanner) → `<probe>_<kind>` with `_low` and `_high`, and None; or nothing and the reason.
    """
    collected: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for scanner, records in scanners.items():
        rows, reason = run_probes([*records, *reference], choice=settings.probe, seed=settings.seed, advance=advance)
        if reason is not None:
            return {}, reason
        for row in rows:
            if row["direction"] == "b2a":
                continue
            method = RAW if row["kind"] == "raw" else REAL if row["kind"] == "floor" else row["method"]
            for kind in KINDS[row["kind"]]:
                for place in (scanner, "mean"):
                    heads = collected.setdefault((method, place, f"{row['probe']}_{kind}"), {})
                    for head, share in row["patients"].items():
                        heads.setdefault(head, []).append(share)
    cells: dict[tuple[str, str], Row] = {}
    for (method, scanner, name), heads in collected.items():
        shares = [float(np.mean(several)) for several in heads.values()]
        interval = bootstrap_interval(shares, limits=(0.0, 1.0))
        ends: dict[str, Any] = {f"{name}_low": interval.low, f"{name}_high": interval.high} if interval else {}
        cells.setdefault((method, scanner), {}).update({name: float(np.mean(shares)), **ends})
    return cells, None
