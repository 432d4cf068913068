"""Tables and figures over all samples: statistics, and shares of inputs, slices and regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.io.atomic import write_csv, write_json

__all__ = [
    "format_method",
    "judged_row",
    "name_class",
    "statistics_rows",
    "write_manifest",
    "write_statistics",
    "write_summaries",
]

Record = Mapping[str, Any]
Row = dict[str, Any]

COLUMNS = (
    "method", "shape", "mean", "std", "min", "max", "abs_mean", "positive_ratio", "negative_ratio", "subject_id",
    "true_label", "prediction", "sample_idx", "input", "patient", "target", "target_probability", "share",
)  # fmt: skip
"""The reference's columns, then seewhy's. `prediction` is the probability of the predicted class, as in the
reference."""
SHARE_COLUMNS = ("id", "patient", "method", "target", "input", "kind", "name", "share", "area", "value")
INTERNAL = ("statistics", "display", "slice_numbers", "key", "classes", "parts", "folder")
"""Entries of a record that are left out of `explanations.json`."""


def format_method(record: Record) -> str:
    """Method and folder of the target, e.g. `grad_cam` or `grad_cam/target_2`."""
    return f"{record['method']}/{record['folder']}" if record["folder"] else str(record["method"])


def judged_row(record: Record) -> Row:
    """Scores of a map with its sample, patient, and method."""
    return {**record["judged"], "id": record["id"], "patient": record["patient"], "method": format_method(record)}


# -- one row per map ------------------------------------------------------------------------------------------


def statistics_rows(records: Sequence[Record]) -> list[Row]:
    """One row per sample, method, target and input."""
    order = {name: number for number, name in enumerate(dict.fromkeys(record["id"] for record in records))}
    rows = []
    for record in records:
        label = record["label"]
        for name, numbers in record["statistics"].items():
            rows.append(
                {
                    "method": record["method"],
                    **numbers,
                    "subject_id": record["id"],
                    "true_label": "/".join(f"{value:g}" for value in label) if isinstance(label, list) else label,
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


def _join_inputs(records: Sequence[Record]) -> list[Row]:
    """One row per sample, method and target for the summary: means over inputs, and the name of the true class."""
    rows = []
    for record in records:
        numbers = list(record["statistics"].values())
        means = {
            name: sum(item[name] for item in numbers) / len(numbers)
            for name in ("abs_mean", "positive_ratio", "negative_ratio")
        }
        rows.append(
            {
                **means,
                "method": record["method"],
                "true_label": "" if record["label"] is None else name_class(record),
                "probability": record["probability"],
                "signed": record["signed"],
            }
        )
    return rows


def write_statistics(path: Path, records: Sequence[Record]) -> Path:
    """Write `attribution_statistics.csv`."""
    return write_csv(path, statistics_rows(records), columns=COLUMNS)


def write_manifest(path: Path, records: Sequence[Record], facts: Mapping[str, Any]) -> Path:
    """Write `explanations.json`: samples, methods and options, and the path of every file.

    Args:
        path: the file.
        records: of all samples, methods and targets.
        facts: of the run.
    """
    hidden = {*INTERNAL, *facts}
    rows = [{key: value for key, value in record.items() if key not in hidden} for record in records]
    return write_json(path, {"format": 1, **facts, "explanations": rows})


# -- shares of inputs, slices and regions ---------------------------------------------------------------------


def write_summaries(
    folder: Path, records: Sequence[Record], *, key_slices: Sequence[int] | None, title: str, phantom: bool
) -> dict[str, Path]:
    """Write `attribution_summary.png`, `shares.csv`, and per method `input_shares.png` or `slice_profile.png`.

    Args:
        folder: folder of the explanations.
        records: of all samples and methods.
        key_slices: numbers of the slices that have pictures.
        title: title of the figures.
        phantom: whether the data are synthetic.

    Returns:
        Caption → figure.
    """
    from seewhy.figures.explanations.statistics import attribution_summary
    from seewhy.figures.style import write_figure

    look: dict[str, Any] = {"title": title, "phantom": phantom}
    rows = share_rows(records)
    if rows:
        complete = [{name: row.get(name) for name in SHARE_COLUMNS} for row in rows]
        write_csv(folder / "shares.csv", complete, columns=SHARE_COLUMNS)
    path = folder / "attribution_summary.png"
    figures = {"All maps": write_figure(path, attribution_summary(_join_inputs(records), **look))}
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["method"], record["folder"]].append(record)
    for (method, target), group in groups.items():
        place = folder / method / target
        if len(group[0]["shares"]) > 1:
            figures[f"{method}: shares of the inputs"] = _draw_input_shares(place, method, group, look)
        profile = _draw_slice_profile(place, method, group, key_slices, look)
        if profile is not None:
            figures[f"{method}: shares of the slices"] = profile
    return figures


def share_rows(records: Sequence[Record]) -> list[Row]:
    """One row per sample, method and input, slice or region."""
    rows = []
    for record in records:
        sample = {key: record[key] for key in ("id", "patient", "method")} | {"target": record["target_name"]}
        rows += [{**sample, **row} for row in _list_contributions(record.get("contributions"))]
        named = record["shares"].items() if len(record["shares"]) > 1 else ()
        rows += [{**sample, "input": n, "kind": "input", "name": n, "share": s, "area": None} for n, s in named]
        parts = record["parts"]
        for name, shares in parts.get("slices", {}).items():
            area = 1 / len(shares) if shares else None
            for number, share in zip(record["slice_numbers"], shares, strict=True):
                rows.append({**sample, "input": name, "kind": "slice", "name": number, "share": share, "area": area})
        for name, regions in parts.get("regions", {}).items():
            for label, share in regions.items():
                area = parts["region_areas"][label]
                rows.append({**sample, "input": name, "kind": "region", "name": label, "share": share, "area": area})
    return rows


def _list_contributions(found: Mapping[str, Any] | None) -> list[Row]:
    """Rows of Shapley values, of the same inputs or channels left out alone, and of pairs.

    `value` is in the units of the score. Shares are of the score with everything minus the score with nothing, and have
    a sign.
    """
    if not found:
        return []
    kinds = {"shapley": "values", "left_out": "left_out", "interaction": "interactions"}
    total = found["total"]
    return [
        {"input": name, "kind": kind, "name": name, "share": value / total if total else None, "value": value}
        for kind, key in kinds.items()
        for name, value in found[key].items()
    ]


def name_class(record: Record) -> str:
    """Name of the true class, or of the predicted class where the true class is unknown."""
    label = record["label"]
    if isinstance(label, int):
        return str(record["classes"][label]) if label < len(record["classes"]) else str(label)
    return f"predicted {record['predicted_name']}" if label is None else "/".join(f"{value:g}" for value in label)


def _draw_input_shares(place: Path, method: str, records: Sequence[Record], look: Mapping[str, Any]) -> Path:
    from seewhy.figures.explanations.shares import branch_shares
    from seewhy.figures.style import write_figure

    shares: dict[str, dict[str, list[float]]] = {}
    effects: dict[str, dict[str, list[float]]] = {}
    for record in sorted(records, key=lambda record: (str(type(record["label"])), str(record["label"]))):
        group = name_class(record)
        for name in records[0]["shares"]:
            value = signed.get(name) if (signed := (record.get("contributions") or {}).get("shares")) else None
            shares.setdefault(group, {}).setdefault(name, []).append(
                record["shares"][name] if value is None else value  # Shapley values keep their sign
            )
            effect = record["judged"].get(f"effect_{name}")
            if effect is not None:
                effects.setdefault(group, {}).setdefault(name, []).append(effect)
    complete = effects if set(effects) == set(shares) else None
    figure = branch_shares(shares, method=method, effects=complete, **look)
    return write_figure(place / "input_shares.png", figure)


def _draw_slice_profile(
    place: Path, method: str, records: Sequence[Record], key_slices: Sequence[int] | None, look: Mapping[str, Any]
) -> Path | None:
    """The profile along the slices; None where samples have different slices or one map for all slices."""
    from seewhy.figures.explanations.shares import slice_profile
    from seewhy.figures.style import write_figure

    numbers = records[0]["slice_numbers"]
    alike = all(record["slice_numbers"] == numbers for record in records)
    one_for_all = any("all slices" in note for record in records for note in record["notes"])
    if len(numbers) < 2 or not alike or one_for_all:
        return None
    profiles: dict[str, list[list[float]]] = {}
    for record in sorted(records, key=lambda record: str(record["label"])):
        shares = next(iter(record["parts"]["slices"].values()))
        if sum(shares) > 0:
            profiles.setdefault(name_class(record), []).append(shares)
    if not profiles:
        return None
    keys = [number for number in key_slices or () if number in numbers]
    figure = slice_profile(profiles, numbers=numbers, method=method, key_slices=keys, **look)
    return write_figure(place / "slice_profile.png", figure)
