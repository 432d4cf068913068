"""From rows of single subjects to what is said of a method: means over patients, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seewhy.metrics.bootstrap import bootstrap_interval
from seewhy.metrics.gather import Row
from seewhy.metrics.translation import METRICS

__all__ = ["lesion_summary", "per_patient", "similarity_summary"]

LEAST_PAIRS = 3
"""Fewest patients that a correlation is taken over; two always lie on a line."""


def similarity_summary(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """Direction → comparison → metric → `mean`, `interval` (95 %, over patients), `patients`.

    Args:
        rows: of `TranslationScores.patient_rows`.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for direction, comparison in dict.fromkeys((row["direction"], row["comparison"]) for row in rows):
        own = [row for row in rows if (row["direction"], row["comparison"]) == (direction, comparison)]
        found.setdefault(direction, {})[comparison] = {metric: _told(per_patient(own, metric)) for metric in METRICS}
    return found


def lesion_summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per direction, method and modality: means over patients, and correlations across them.

    Args:
        rows: of lesions, see `seewhy.run.evaluation.recorder`.
    """
    found = []
    for key in dict.fromkeys((row["direction"], row["method"], row["modality"]) for row in rows):
        own = [row for row in rows if (row["direction"], row["method"], row["modality"]) == key]
        entry: dict[str, Any] = dict(zip(("direction", "method", "modality"), key, strict=True))
        entry["patients"] = len({row["patient"] for row in own})
        for name in ("contrast_source", "contrast", "contrast_counterpart", "dice_source", "dice", "dice_counterpart"):
            entry[name] = _mean(per_patient(own, name))
        entry["relative_change"] = _told(per_patient(own, "relative_change"))
        entry["volume_ratio"] = _told(per_patient(own, "volume_ratio"))
        entry["contrast_correlation"] = _correlation(own, "contrast_source", "contrast")
        entry["volume_correlation"] = _correlation(own, "volume_source", "volume")
        found.append(entry)
    return found


def per_patient(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One number per patient: the mean of its scans that have one."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row[name] is not None and not np.isnan(row[name]):
            values.setdefault(row["patient"], []).append(row[name])
    return [float(np.mean(own)) for own in values.values()]


def _told(values: Sequence[float]) -> dict[str, Any]:
    finite = bool(np.isfinite(values).all())
    interval = bootstrap_interval(values) if finite else None
    return {
        "mean": _mean(values),
        "interval": None if interval is None else [interval.low, interval.high],
        "patients": len(values),
    }


def _mean(values: Sequence[float]) -> float | None:
    """None where there is no value, or an infinite one."""
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None


def _correlation(rows: Sequence[Row], first: str, second: str) -> float | None:
    """Pearson's, across patients with both numbers; None with too few of them or none that differ."""
    # What lacks either number is left out of both, or numbers of different patients would stand beside each other.
    whole = [row for row in rows if not any(row[name] is None or np.isnan(row[name]) for name in (first, second))]
    one, other = np.asarray(per_patient(whole, first)), np.asarray(per_patient(whole, second))
    if len(one) < LEAST_PAIRS or min(one.std(), other.std()) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
