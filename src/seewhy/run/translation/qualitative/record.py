"""`case_ids.json`: the chosen cases in the schema that the reference's users know, and what makes them honest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.atomic import write_json
from seewhy.run.translation.qualitative.options import CATEGORIES, CaseOptions
from seewhy.run.translation.qualitative.selection import SelectedCase, describe

__all__ = ["PAIRING", "SIDES", "changed_categories", "read_cases", "write_cases"]

SIDES = {"a2b": "", "b2a": "_b"}
"""Direction → what its keys in a category end with; those without an ending are the reference's."""
PAIRING = (
    "cases of domain b are chosen like those of domain a and stand beside them rank by rank; they are of other people "
    "and do not correspond"
)


def write_cases(
    path: Path,
    chosen: Mapping[str, Mapping[str, Sequence[SelectedCase]]],
    options: CaseOptions,
    *,
    comparisons: Mapping[str, str],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the cases of all categories.

    Each category has `indices`, `ssim_a2b`, `psnr_a2b`, `description` of domain a's cases, as the reference has; and
    `indices_b`, `ssim_b2a`, `psnr_b2a`, `description_b` of domain b's. `cases` and `cases_b` name each of them.

    Args:
        path: of the file.
        chosen: direction → category → cases.
        options: what they were chosen by.
        comparisons: direction → what its scores compare.
        facts: of the run: `n_samples`, `selection_date`, `checkpoint`, `checkpoint_epoch`, …

    Returns:
        What was written.
    """
    record: dict[str, Any] = {
        "metadata": {
            **facts,
            "seed": options.seed,
            "selection_method": "true_per_sample_scores",
            "metric": options.metric,
            "comparison": dict(comparisons),
            "modality": options.modality,
            "unit": options.unit,
            "min_tissue": options.min_tissue,
            "max_per_subject": options.max_per_subject,
            "pairing": PAIRING,
        }
    }
    for category in CATEGORIES:
        own: dict[str, Any] = {}
        for direction, side in SIDES.items():
            cases = chosen.get(direction, {}).get(category, [])
            own[f"indices{side}"] = [case.index for case in cases]
            own |= {f"{name}_{direction}": [_plain(case.scores[name]) for case in cases] for name in ("ssim", "psnr")}
            known = comparisons.get(direction)
            own[f"description{side}"] = describe(category, options, known) if known else "no scores"
            own[f"cases{side}"] = [_named(case, comparisons[direction], direction) for case in cases]
        record[category] = own
    for side in SIDES.values():
        every = {index for category in CATEGORIES for index in record[category][f"indices{side}"]}
        record[f"all_indices{side}"] = sorted(every)
    write_json(path, record)
    return record


def read_cases(path: Path) -> dict[str, Any]:
    """Read what `write_cases` wrote.

    Raises:
        DataError: it is missing or none of ours.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; choose cases first: cases.stages=[select,…]")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in CATEGORIES if "cases" not in record[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no record of cases ({error}); make it anew: cases.stages=[select,…]") from error
    if missing:
        raise DataError(f"{path} names no samples for {', '.join(missing)}; make it anew: cases.stages=[select,…]")
    return record


def changed_categories(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """Categories that another selection made others: their cases, or what all were chosen by.

    Args:
        before: what `case_ids.json` held; None where there was none.
        after: what it holds.
    """
    if before is None:
        return list(CATEGORIES)
    facts = [{**record.get("metadata", {}), "selection_date": None} for record in (before, after)]
    return [name for name in CATEGORIES if facts[0] != facts[1] or before[name] != after[name]]


def _named(case: SelectedCase, comparison: str, direction: str) -> dict[str, Any]:
    return {
        "index": case.index,
        "id": case.id,
        "subject": case.subject,
        "patient": case.patient,
        "domain": case.domain,
        "slice": case.slice,
        "direction": direction,
        "comparison": comparison,
        **{name: _plain(value) for name, value in case.scores.items()},
    }


def _plain(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
