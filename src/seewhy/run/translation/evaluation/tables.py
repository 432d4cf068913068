"""Tables of an evaluation: summaries over patients, `table.csv`, and the two files of the CycleGAN-2.5D reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seewhy.metrics.bootstrap import bootstrap_interval
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.similarity import DIRECTIONS, METRICS
from seewhy.run.translation.evaluation.distances import MEASURES

__all__ = [
    "COLUMNS",
    "FLOOR",
    "KINDS",
    "average_per_patient",
    "build_cycle_results",
    "build_evaluation_results",
    "build_evaluation_table",
    "summarize_lesions",
    "summarize_similarity",
]

LEAST_PAIRS = 3
"""Fewest patients of a correlation; two points always lie on a line."""
FLOOR = "real"
"""Method of the floor: real scans of the target against other real scans of the target."""
TRUTH = "counterpart"
"""Method of real scans of the same head by the other scanner, if known: the true appearance of a lesion."""
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
KINDS = {"raw": ("frozen", "retrained"), "frozen": ("frozen",), "retrained": ("retrained",), "floor": ("retrained",)}
"""Kind of a probe → columns; nothing was translated in raw scans, so both are the same."""
FORWARD = ("ssim", "psnr", "mae", "mse", "lpips")
CYCLE = ("ssim", "psnr", "mae")


def summarize_similarity(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return direction → comparison → metric → `mean`, `interval` (95 %, over patients), `patients`.

    Args:
        rows: of `TranslationScores.patient_rows`.
    """
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for key in dict.fromkeys((row["direction"], row["comparison"]) for row in rows):
        group = [row for row in rows if (row["direction"], row["comparison"]) == key]
        summary.setdefault(key[0], {})[key[1]] = {
            metric: _summarize(average_per_patient(group, metric)) for metric in METRICS
        }
    return summary


def summarize_lesions(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one entry per direction, method and modality: means over patients, and correlations across them.

    Args:
        rows: of lesions, see `seewhy.run.translation.evaluation.recorder`.
    """
    names = ("direction", "method", "modality")
    entries = []
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        group = [row for row in rows if tuple(row[name] for name in names) == key]
        entry: dict[str, Any] = dict(zip(names, key, strict=True))
        entry["patients"] = len({row["patient"] for row in group})
        for name in ("contrast_source", "contrast", "contrast_counterpart", "dice_source", "dice", "dice_counterpart"):
            entry[name] = _mean(average_per_patient(group, name))
        entry["relative_change"] = _summarize(average_per_patient(group, "relative_change"))
        entry["volume_ratio"] = _summarize(average_per_patient(group, "volume_ratio"))
        entry["contrast_correlation"] = _correlate(group, "contrast_source", "contrast")
        entry["volume_correlation"] = _correlate(group, "volume_source", "volume")
        entries.append(entry)
    return entries


def average_per_patient(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return one number per patient: the mean of the patient's scans that have a value.

    Example:
        >>> from seewhy.run.translation.evaluation.tables import average_per_patient
        >>> rows = [{"patient": "p1", "ssim": 0.5}, {"patient": "p1", "ssim": 1.0}, {"patient": "p2", "ssim": None}]
        >>> average_per_patient(rows, "ssim")
        [0.75]
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if row[name] is not None and not np.isnan(row[name]):
            values.setdefault(row["patient"], []).append(row[name])
    return [float(np.mean(several)) for several in values.values()]


def _summarize(values: Sequence[float]) -> dict[str, Any]:
    interval = bootstrap_interval(values) if bool(np.isfinite(values).all()) else None
    return {
        "mean": _mean(values),
        "interval": None if interval is None else [interval.low, interval.high],
        "patients": len(values),
    }


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean; None without values, or with an infinite one."""
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None


def _correlate(rows: Sequence[Row], first: str, second: str) -> float | None:
    """Return Pearson's correlation over patients with both values; None for too few patients or constant values."""
    # Rows without one of the values are left out of both, so that values of the same patients are paired.
    whole = [row for row in rows if not any(row[name] is None or np.isnan(row[name]) for name in (first, second))]
    x, y = (np.asarray(average_per_patient(whole, name)) for name in (first, second))
    if len(x) < LEAST_PAIRS or min(x.std(), y.std()) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def build_evaluation_table(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build rows with `COLUMNS`, one per direction and method; None for undefined values.

    `…_matched` are distances between groups of `matched_patients`.

    Args:
        evaluation: contents of `evaluation.json`.
    """
    rows = []
    for domain, direction in DIRECTIONS.items():
        distances = evaluation["distances"][direction]
        head = {
            **dict.fromkeys(COLUMNS), "direction": direction, "phantom": evaluation["phantom"],
            "features": evaluation["features"]["name"], "source_patients": evaluation["patients"][domain],
            "target_patients": evaluation["patients"][direction[-1]],
            "matched_patients": distances["matched_patients"],
        }  # fmt: skip
        probes = evaluation["probes"]["summary"]
        floors = {**_distance_cells(distances["floor"]), **_probe_cells(probes, FLOOR, direction)}
        rows.append({**head, "method": FLOOR, "status": "floor", **floors})
        truth = _truth_cells(evaluation["lesions"], direction)
        if truth:
            rows.append({**head, "method": TRUTH, "status": "truth", **truth})
        for method, status in evaluation["methods"].items():
            row = {**head, "method": method, "status": status}
            if status == "ok":
                row |= _similarity_cells(evaluation["similarity"].get(method, {}).get(direction, {}))
                row |= _distance_cells(distances["methods"].get(method, {}))
                row |= _probe_cells(probes, method, direction)
                row |= _lesion_cells(evaluation["lesions"], method, direction)
            rows.append(row)
    return rows


def _similarity_cells(summary: Mapping[str, Any]) -> dict[str, Any]:
    names = {metric: ("translation", metric) for metric in ("ssim", "psnr", "mae")}
    names |= {"cycle_ssim": ("cycle", "ssim"), "change_ssim": ("change", "ssim")}
    return {name: summary.get(kind, {}).get(metric, {}).get("mean") for name, (kind, metric) in names.items()}


def _distance_cells(summary: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in MEASURES:
        measure = summary.get(name, {})
        row |= {name: measure.get("value"), f"{name}_matched": measure.get("matched")}
        row[f"{name}_matched_sd"] = measure.get("matched_sd")
    return row


def _probe_cells(summary: list[Mapping[str, Any]], method: str, direction: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for entry in summary:
        raw = method == "identity" and entry["kind"] == "raw"
        if raw or (entry["method"], entry["direction"]) == (method, direction):
            for kind in KINDS[entry["kind"]]:
                name = f"{entry['probe']}_{kind}"
                row[name] = entry["balanced_accuracy"]
                row |= {f"{name}_seed_sd": entry["balanced_accuracy_seed_sd"], f"{name}_auc": entry["auc"]}
    return row


def _lesion_cells(lesions: Mapping[str, Any], method: str, direction: str) -> dict[str, Any]:
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


def _truth_cells(lesions: Mapping[str, Any], direction: str) -> dict[str, Any]:
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


def build_evaluation_results(
    header: Mapping[str, Any], rows: Sequence[Row], distances: Mapping[str, Any], *, features: str
) -> dict[str, Any]:
    """Build `evaluation_results.json` of the reference: translations against the true counterpart, slice by slice.

    Values are null if there is no counterpart (the reference uses the slice of another patient). LPIPS is null, since
    seewhy has no weights for it. `fid` is the Fréchet distance in `features`, whichever these are.

    Args:
        header: first entries of both files.
        rows: long rows of the model.
        distances: direction → result of `measure_direction`.
        features: name of the features of the Fréchet distance.
    """
    results: dict[str, Any] = {**header, "features": features}
    for direction in DIRECTIONS.values():
        values = _average_per_slice(rows, direction, "translation")
        results[direction] = {name: _describe(values.get(name, [])) for name in FORWARD}
        model = distances.get(direction, {}).get("methods", {}).get("model", {})
        results[direction]["fid"] = {"value": model.get("frechet", {}).get("value")}
    return results


def build_cycle_results(header: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Build `cycle_consistency_results.json` of the reference: reconstructions against the input, slice by slice.

    Args:
        header: first entries of both files.
        rows: long rows of the model.
    """
    results: dict[str, Any] = {key: value for key, value in header.items() if key != "checkpoint_best_metric"}
    for domain, direction in DIRECTIONS.items():
        values = _average_per_slice(rows, direction, "cycle")
        results[f"cycle_{domain}"] = {name: _describe(values.get(name, [])) for name in CYCLE}
    return results


def _average_per_slice(rows: Sequence[Row], direction: str, comparison: str) -> dict[str, list[float]]:
    """Return metric → a value per slice, the mean over its modalities."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["direction"] == direction and row["comparison"] == comparison:
            values[row["metric"], row["id"]].append(row["value"])
    averages: dict[str, list[float]] = defaultdict(list)
    for (metric, _), several in values.items():
        averages[metric].append(float(np.mean(several)))
    return averages


def _describe(values: Sequence[float]) -> dict[str, float | None]:
    names = ("mean", "std", "median", "min", "max", "q25", "q75")
    finite = np.asarray([value for value in values if np.isfinite(value)])
    if not finite.size:
        return dict.fromkeys(names)
    numbers = (
        finite.mean(), finite.std(), np.median(finite), finite.min(), finite.max(),
        *np.quantile(finite, [0.25, 0.75]),
    )  # fmt: skip
    return {name: float(value) for name, value in zip(names, numbers, strict=True)}
