"""Figures and tables over all samples: statistics, shares of inputs, slices and regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.callbacks.explanations.tables import statistics_rows
from seewhy.io.atomic import write_csv

__all__ = ["write_summaries"]

Record = Mapping[str, Any]
COLUMNS = ("id", "patient", "method", "target", "input", "kind", "name", "share", "area")


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
    from seewhy.figures.attributions import attribution_summary
    from seewhy.figures.style import write_figure

    look: dict[str, Any] = {"title": title, "phantom": phantom}
    rows = share_rows(records)
    if rows:
        write_csv(folder / "shares.csv", rows, columns=COLUMNS)
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
    from seewhy.figures.shares import branch_shares
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
    from seewhy.figures.shares import slice_profile
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
