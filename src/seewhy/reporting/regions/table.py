"""Table of the calibrated regions of methods and controls: size, coverage of the explained patients, promise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from seewhy.io.atomic import write_csv
from seewhy.metrics.bootstrap import bootstrap_interval

__all__ = ["region_rows", "write_region_table"]

CONTROL = "control_"


def region_rows(scores: Sequence[Mapping[str, Any]], *, alpha: float) -> list[dict[str, Any]]:
    """One row per method and control with a calibrated region: methods first, and small regions first.

    A patient counts as kept if the regions of all its samples keep their predictions. The interval of the share of
    these patients is binomial (Wilson, 95 %); there is none with fewer than three.

    Args:
        scores: judged samples with `method`, `patient` and `seewhy.reporting.regions.calibration.REGION_COLUMNS`.
        alpha: of the calibration.

    Example:
        >>> rows = [{"method": "grad_cam", "patient": str(number), "region_size": 0.2, "region_kept": number < 4,
        ...          "region_empty": number < 2, "region_share": 0.2, "region_patients": 9} for number in range(5)]
        >>> row = region_rows(rows, alpha=0.1)[0]
        >>> row["coverage"], round(row["low"], 2), round(row["high"], 2), row["empty"], row["promised"], row["size"]
        (0.8, 0.38, 0.96, 0.4, 0.9, 0.2)
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in scores:
        if row.get("region_kept") is not None:
            groups[str(row["method"])].append(row)
    result = []
    for method, own in groups.items():
        patients: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in own:
            patients[str(row["patient"])].append(row)
        kept = [float(all(row["region_kept"] for row in rows)) for rows in patients.values()]
        interval = bootstrap_interval(kept, limits=(0, 1))
        result.append(
            {
                "method": method,
                "share": own[0]["region_share"],
                "calibration_patients": own[0]["region_patients"],
                "promised": round(1 - alpha, 6),
                "samples": len(own),
                "patients": len(kept),
                "coverage": mean(kept),
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "empty": mean(float(all(row["region_empty"] for row in rows)) for rows in patients.values()),
                "size": mean(mean(row["region_size"] for row in rows) for rows in patients.values()),
            }
        )
    return sorted(result, key=lambda row: (row["method"].startswith(CONTROL), row["size"]))


def write_region_table(path: Path, scores: Sequence[Mapping[str, Any]], *, alpha: float | None) -> list[dict[str, Any]]:
    """Write `regions.csv`, and return its rows; no file and no rows without calibrated regions."""
    rows = [] if alpha is None else region_rows(scores, alpha=alpha)
    if rows:
        write_csv(path, rows, columns=tuple(rows[0]))
    return rows
