"""Our numbers in the two files of the public CycleGAN-2.5D reference, for scripts that read those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seewhy.metrics.gather import Row
from seewhy.metrics.translation.similarity import DIRECTIONS

__all__ = ["cycle_consistency_results", "evaluation_results"]

FORWARD = ("ssim", "psnr", "mae", "mse", "lpips")
CYCLE = ("ssim", "psnr", "mae")


def evaluation_results(
    header: Mapping[str, Any], rows: Sequence[Row], distances: Mapping[str, Any], *, features: str
) -> dict[str, Any]:
    """`evaluation_results.json`: translations against the same head on the other scanner, one value per slice.

    Where there is no such scan the values are null: the reference puts another patient's slice there. LPIPS is null,
    since its weights cannot be had here; `fid` is the Fréchet distance in `features`, whatever those are.

    Args:
        header: what both files begin with.
        rows: long rows of the model.
        distances: direction → what `direction_distances` gives.
        features: name of what the Fréchet distance was measured in.
    """
    found: dict[str, Any] = {**header, "features": features}
    for direction in DIRECTIONS.values():
        values = _per_slice(rows, direction, "translation")
        found[direction] = {name: _statistics(values.get(name, [])) for name in FORWARD}
        model = distances.get(direction, {}).get("methods", {}).get("model", {})
        found[direction]["fid"] = {"value": model.get("frechet", {}).get("value")}
    return found


def cycle_consistency_results(header: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """`cycle_consistency_results.json`: scans translated there and back, against themselves, one value per slice.

    Args:
        header: what both files begin with.
        rows: long rows of the model.
    """
    found: dict[str, Any] = {key: value for key, value in header.items() if key != "checkpoint_best_metric"}
    for domain, direction in DIRECTIONS.items():
        values = _per_slice(rows, direction, "cycle")
        found[f"cycle_{domain}"] = {name: _statistics(values.get(name, [])) for name in CYCLE}
    return found


def _per_slice(rows: Sequence[Row], direction: str, comparison: str) -> dict[str, list[float]]:
    """Metric → a value per slice, the mean over its modalities."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["direction"] == direction and row["comparison"] == comparison:
            values[row["metric"], row["id"]].append(row["value"])
    found: dict[str, list[float]] = defaultdict(list)
    for (metric, _), own in values.items():
        found[metric].append(float(np.mean(own)))
    return found


def _statistics(values: Sequence[float]) -> dict[str, float | None]:
    names = ("mean", "std", "median", "min", "max", "q25", "q75")
    known = np.asarray([value for value in values if np.isfinite(value)])
    if not known.size:
        return dict.fromkeys(names)
    numbers = (
        known.mean(), known.std(), np.median(known), known.min(), known.max(), *np.quantile(known, [0.25, 0.75]),
    )  # fmt: skip
    return {name: float(value) for name, value in zip(names, numbers, strict=True)}
