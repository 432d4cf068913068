"""The one table of an evaluation: a row per direction and method, and what they are to be seen beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seewhy.metrics.translation_scores import DIRECTIONS
from seewhy.run.evaluation.distances import MEASURES

__all__ = ["COLUMNS", "FLOOR", "evaluation_table"]

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
