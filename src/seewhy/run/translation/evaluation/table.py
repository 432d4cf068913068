"""The one table of an evaluation: a row per direction and method, and what they are to be seen beside.

From rows of single subjects to what is said of a method: means over patients, with intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seewhy.metrics.bootstrap import bootstrap_interval
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.similarity import DIRECTIONS, METRICS
from seewhy.run.translation.evaluation.distances import MEASURES

__all__ = ["COLUMNS", "FLOOR", "evaluation_table", "lesion_summary", "per_patient", "similarity_summary"]

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
        rows: of lesions, see `seewhy.run.translation.evaluation.recorder`.
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


FLOOR = "real"
"""The method of the floor: real scans of the target against others of its real scans."""
TRUTH = "counterpart"
"""The same head on the other scanner, where it is known: what a lesion should look like."""
COLUMNS = (
    "direction", "method", "status", "phantom", "features", "source_patients", "target_patients",
    "matched_patients",
    "ssim", "psnr", "mae", "cycle_ssim", "change_ssim",
    *(f"{name}{end}" for name in MEASURES for end in ("", "_matched", "_matched_sd")),
    *(f"{probe}_{kind}{end}" for probe in ("network", "logistic") for kind in ("frozen", "retrained")
      for end in ("", "_seed_sd", "_auc")),
    "lesion_patients", "lesion_contrast_source", "lesion_contrast", "lesion_contrast_counterpart",
    "lesion_relative_change", "lesion_dice", "lesion_volume_ratio", "lesion_volume_correlation",
)  # fmt: skip


def evaluation_table(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows with `COLUMNS`; None where a number is not defined.

    `…_matched` are distances between groups of `matched_patients`.

    Args:
        evaluation: what `evaluation.json` holds.
    """
    rows = []
    for domain, direction in DIRECTIONS.items():
        head = {
            **dict.fromkeys(COLUMNS), "direction": direction, "phantom": evaluation["phantom"],
            "features": evaluation["features"]["name"], "source_patients": evaluation["patients"][domain],
            "target_patients": evaluation["patients"][direction[-1]],
            "matched_patients": evaluation["distances"][direction]["matched_patients"],
        }  # fmt: skip
        distances = evaluation["distances"][direction]
        probes = evaluation["probes"]["summary"]
        floors = {**_distances(distances["floor"]), **_probes(probes, FLOOR, direction)}
        rows.append({**head, "method": FLOOR, "status": "floor", **floors})
        truth = _truth(evaluation["lesions"], direction)
        if truth:
            rows.append({**head, "method": TRUTH, "status": "truth", **truth})
        for method, status in evaluation["methods"].items():
            row = {**head, "method": method, "status": status}
            if status == "ok":
                row |= _similarity(evaluation["similarity"].get(method, {}).get(direction, {}))
                row |= _distances(distances["methods"].get(method, {}))
                row |= _probes(probes, method, direction)
                row |= _lesion(evaluation["lesions"], method, direction)
            rows.append(row)
    return rows


def _similarity(found: Mapping[str, Any]) -> dict[str, Any]:
    def mean(comparison: str, metric: str) -> float | None:
        value: float | None = found.get(comparison, {}).get(metric, {}).get("mean")
        return value

    forward = {metric: mean("translation", metric) for metric in ("ssim", "psnr", "mae")}
    return {**forward, "cycle_ssim": mean("cycle", "ssim"), "change_ssim": mean("change", "ssim")}


def _distances(found: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in MEASURES:
        own = found.get(name, {})
        row |= {name: own.get("value"), f"{name}_matched": own.get("matched")}
        row[f"{name}_matched_sd"] = own.get("matched_sd")
    return row


def _probes(summary: list[Mapping[str, Any]], method: str, direction: str) -> dict[str, Any]:
    """Of the raw value both kinds are the same, since nothing was translated; the floor has one to be trained."""
    row: dict[str, Any] = {}
    kinds = {
        "raw": ("frozen", "retrained"),
        "floor": ("retrained",),
        "frozen": ("frozen",),
        "retrained": ("retrained",),
    }
    for entry in summary:
        raw = method == "identity" and entry["kind"] == "raw"
        if raw or (entry["method"], entry["direction"]) == (method, direction):
            for kind in kinds[entry["kind"]]:
                name = f"{entry['probe']}_{kind}"
                row[name] = entry["balanced_accuracy"]
                row |= {f"{name}_seed_sd": entry["balanced_accuracy_seed_sd"], f"{name}_auc": entry["auc"]}
    return row


def _lesion(lesions: Mapping[str, Any], method: str, direction: str) -> dict[str, Any]:
    for entry in lesions["summary"]:
        if (entry["direction"], entry["method"], entry["modality"]) == (direction, method, lesions["modality"]):
            return {
                "lesion_patients": entry["patients"],
                "lesion_contrast_source": entry["contrast_source"],
                "lesion_contrast": entry["contrast"],
                "lesion_contrast_counterpart": entry["contrast_counterpart"],
                "lesion_relative_change": entry["relative_change"]["mean"],
                "lesion_dice": entry["dice"],
                "lesion_volume_ratio": entry["volume_ratio"]["mean"],
                "lesion_volume_correlation": entry["volume_correlation"],
            }
    return {}


def _truth(lesions: Mapping[str, Any], direction: str) -> dict[str, Any]:
    for entry in lesions["summary"]:
        if (entry["direction"], entry["modality"]) == (direction, lesions["modality"]):
            if entry["contrast_counterpart"] is None:
                return {}
            return {
                "lesion_patients": entry["patients"],
                "lesion_contrast_source": entry["contrast_source"],
                "lesion_contrast": entry["contrast_counterpart"],
                "lesion_dice": entry["dice_counterpart"],
            }
    return {}
