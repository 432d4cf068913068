"""What is said of all explanations together: statistics, and the list of every file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.io.atomic import write_csv, write_json

__all__ = ["statistics_rows", "write_manifest", "write_statistics"]

Record = Mapping[str, Any]

COLUMNS = (
    "method", "shape", "mean", "std", "min", "max", "abs_mean", "positive_ratio", "negative_ratio", "subject_id",
    "true_label", "prediction", "sample_idx", "input", "patient", "target", "target_probability", "share",
)  # fmt: skip
"""The reference's columns, then ours. `prediction` is the probability of the predicted class, as it was there."""
INTERNAL = ("statistics", "display", "slice_numbers", "key", "classes", "parts", "folder")
"""Entries of a record that the list of files does without."""


def statistics_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per sample, method, target and input."""
    order = {name: place for place, name in enumerate(dict.fromkeys(record["id"] for record in records))}
    rows = []
    for record in records:
        for name, numbers in record["statistics"].items():
            rows.append(
                {
                    "method": record["method"],
                    **numbers,
                    "subject_id": record["id"],
                    "true_label": _label(record["label"]),
                    "prediction": record["confidence"],
                    "sample_idx": order[record["id"]],
                    "input": name,
                    "patient": record["patient"],
                    "target": record["target_name"],
                    "target_probability": record["probability"],
                    "share": record["shares"][name],
                }
            )
    return rows


def write_statistics(path: Path, records: Sequence[Record]) -> Path:
    """Write `attribution_statistics.csv`."""
    return write_csv(path, statistics_rows(records), columns=COLUMNS)


def write_manifest(path: Path, records: Sequence[Record], facts: Mapping[str, Any]) -> Path:
    """Write `explanations.json`: what was explained how, and every file of it.

    Args:
        path: the file.
        records: of all samples, methods and targets.
        facts: of the run.
    """
    kept = [{key: value for key, value in record.items() if key not in INTERNAL} for record in records]
    shared = set(facts)
    rows = [{key: value for key, value in record.items() if key not in shared} for record in kept]
    return write_json(path, {"format": 1, **facts, "explanations": rows})


def _label(label: object) -> object:
    return "/".join(f"{value:g}" for value in label) if isinstance(label, list) else label
