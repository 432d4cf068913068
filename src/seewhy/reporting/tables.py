"""Figures and tables over all samples: statistics, shares of inputs, slices and regions.

What is said of all explanations together: statistics, and the list of every file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.io.atomic import write_csv, write_json

__all__ = ["statistics_rows", "write_manifest", "write_statistics", "write_summaries"]

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


COLUMNS_summaries = ("id", "patient", "method", "target", "input", "kind", "name", "share", "area")


def write_summaries(
    folder: Path, records: Sequence[Record], *, key_slices: Sequence[int] | None, title: str, phantom: bool
) -> dict[str, Path]:
    """Write `attribution_summary.png`, `shares.csv`, and per method `input_shares.png` or `slice_profile.png`.

    Args:
        folder: of the explanations.
        records: of all samples and methods.
        key_slices: numbers of the slices that have pictures.
        title: of the figures.
        phantom: whether the data are synthetic.

    Returns:
        Caption → figure.
    """
    from seewhy.figures.explanations.statistics import attribution_summary
    from seewhy.figures.style import write_figure

    look: dict[str, Any] = {"title": title, "phantom": phantom}
    rows = share_rows(records)
    if rows:
        write_csv(folder / "shares.csv", rows, columns=COLUMNS_summaries)
    path = folder / "attribution_summary.png"
    figures = {"All maps": write_figure(path, attribution_summary(statistics_rows(records), **look))}
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["method"], record["folder"]].append(record)
    for (method, target), own in groups.items():
        place = folder / method / target
        if len(own[0]["shares"]) > 1:
            figures[f"{method}: shares of the inputs"] = _inputs(place, method, own, look)
        profile = _profile(place, method, own, key_slices, look)
        if profile is not None:
            figures[f"{method}: shares of the slices"] = profile
    return figures


def share_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row per sample, method and input, slice or region."""
    rows = []
    for record in records:
        known = {key: record[key] for key in ("id", "patient", "method")} | {"target": record["target_name"]}
        named = record["shares"].items() if len(record["shares"]) > 1 else ()
        rows += [{**known, "input": n, "kind": "input", "name": n, "share": s, "area": None} for n, s in named]
        parts = record["parts"]
        for name, shares in parts.get("slices", {}).items():
            for number, share in zip(record["slice_numbers"], shares, strict=True):
                area = 1 / len(shares)
                rows.append({**known, "input": name, "kind": "slice", "name": number, "share": share, "area": area})
        for name, regions in parts.get("regions", {}).items():
            for label, share in regions.items():
                area = parts["region_areas"][label]
                rows.append({**known, "input": name, "kind": "region", "name": label, "share": share, "area": area})
    return rows


def _class_of(record: Record) -> str:
    label = record["label"]
    if isinstance(label, int):
        return str(record["classes"][label]) if label < len(record["classes"]) else str(label)
    return f"predicted {record['predicted_name']}" if label is None else "/".join(f"{one:g}" for one in label)


def _inputs(place: Path, method: str, records: Sequence[Record], look: Mapping[str, Any]) -> Path:
    from seewhy.figures.explanations.shares import branch_shares
    from seewhy.figures.style import write_figure

    names = list(records[0]["shares"])
    shares: dict[str, dict[str, list[float]]] = {}
    effects: dict[str, dict[str, list[float]]] = {}
    for record in sorted(records, key=lambda one: (str(type(one["label"])), str(one["label"]))):
        group = _class_of(record)
        for name in names:
            shares.setdefault(group, {}).setdefault(name, []).append(record["shares"][name])
            effect = record["judged"].get(f"effect_{name}")
            if effect is not None:
                effects.setdefault(group, {}).setdefault(name, []).append(effect)
    whole = effects if set(effects) == set(shares) else None
    figure = branch_shares(shares, method=method, effects=whole, **look)
    return write_figure(place / "input_shares.png", figure)


def _profile(
    place: Path, method: str, records: Sequence[Record], key_slices: Sequence[int] | None, look: Mapping[str, Any]
) -> Path | None:
    """The profile along the slices, where all samples have the same ones and a map for each."""
    from seewhy.figures.explanations.shares import slice_profile
    from seewhy.figures.style import write_figure

    numbers = records[0]["slice_numbers"]
    alike = all(record["slice_numbers"] == numbers for record in records)
    one_for_all = any("all slices" in note for record in records for note in record["notes"])
    if len(numbers) < 2 or not alike or one_for_all:
        return None
    profiles: dict[str, list[list[float]]] = {}
    for record in sorted(records, key=lambda one: str(one["label"])):
        shares = next(iter(record["parts"]["slices"].values()))
        if sum(shares) > 0:
            profiles.setdefault(_class_of(record), []).append(shares)
    if not profiles:
        return None
    keys = [number for number in key_slices or () if number in numbers]
    figure = slice_profile(profiles, numbers=numbers, method=method, key_slices=keys, **look)
    return write_figure(place / "slice_profile.png", figure)
