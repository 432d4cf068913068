"""Agreement of tissues and lesions between scanners, for every method, with floor and ceiling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from seewhy.batch import MODALITIES
from seewhy.metrics.agreement import measure_agreement, measure_gain
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.scan_rule import LESION, TISSUES
from seewhy.run.translation.evaluation.recorder import RAW

__all__ = ["COLUMNS", "MEASURES", "RESCAN", "HeadValues", "build_agreement_rows", "collect_values", "list_head_rows"]

RESCAN = "rescan"
"""Method of the ceiling: the reference scanner against itself."""
Measure: TypeAlias = tuple[str, str, str]
"""Kind, modality (empty for volumes), region."""
REGIONS = (*TISSUES, LESION)
MEASURES: tuple[Measure, ...] = (
    *(("volume", "", region) for region in REGIONS),
    *(("intensity", modality, region) for modality in MODALITIES for region in REGIONS),
)
HeadValues: TypeAlias = dict[str, dict[str, list[dict[Measure, float]]]]
"""Scanner → head → values of each of its scans, in the order of their names."""
COLUMNS = (
    "method", "status", "phantom", "kind", "modality", "region", "heads", "scanners",
    *(f"{name}{end}" for name in ("icc", "ccc") for end in ("", "_low", "_high", "_better")),
    "difference", "relative_difference",
)  # fmt: skip


def collect_values(records: Iterable[Row], method: str) -> dict[str, list[dict[Measure, float]]]:
    """Collect the values of one method from the records of one scanner, head by head.

    Args:
        records: of `SubjectRecorder`, in the order of their subjects.
        method: name of the method.
    """
    heads: dict[str, list[dict[Measure, float]]] = {}
    for record in records:
        rows = [row for row in record["scans"] if row["method"] == method]
        if rows:
            values = {(row["kind"], row["modality"], row["region"]): row["value"] for row in rows}
            heads.setdefault(record["patient"], []).append(values)
    return heads


def build_agreement_rows(
    values: Mapping[str, HeadValues], *, reference: str, heads: Sequence[str], phantom: bool
) -> list[Row]:
    """Build the rows of `agreement.csv`: one per method and measure.

    The first scan of a head on each scanner counts. The ceiling compares the first with the second scan on the
    reference scanner, for heads that have both. `…_better` compares with the untranslated scans of the same heads, see
    `measure_gain`. `difference` is the mean absolute difference from the reference, over heads and the other scanners;
    `relative_difference` of volumes is their sum over the sum of the reference's volumes.

    Args:
        values: method → values of its scans; the reference's are untranslated in every method.
        reference: name of the reference scanner.
        heads: heads that all scanners have seen.
        phantom: whether the heads are synthetic.
    """
    rows = []
    for measure in MEASURES:
        floor_heads, floor = _make_table(values[RAW], measure, reference, heads)
        tables = {name: _make_table(scanners, measure, reference, heads) for name, scanners in values.items()}
        again = [head for head in heads if len(values[RAW][reference][head]) > 1]
        pairs = [[scan.get(measure) for scan in values[RAW][reference][head][:2]] for head in again]
        whole = [number for number, pair in enumerate(pairs) if None not in pair]
        tables[RESCAN] = [again[number] for number in whole], np.asarray([pairs[number] for number in whole], float)
        for name, (measured, table) in tables.items():
            if not measured:
                continue
            about = dict(zip(("kind", "modality", "region"), measure, strict=True))
            status = {RAW: "floor", RESCAN: "ceiling"}.get(name, "ok")
            row = {**dict.fromkeys(COLUMNS), "method": name, "status": status, "phantom": phantom, **about}
            row |= {"heads": len(measured), "scanners": table.shape[1]}
            better = measure_gain(table, floor) if status == "ok" and measured == floor_heads else {}
            for coefficient, agreement in measure_agreement(table).items():
                row |= {
                    coefficient: agreement.value, f"{coefficient}_low": agreement.low,
                    f"{coefficient}_high": agreement.high, f"{coefficient}_better": better.get(coefficient),
                }  # fmt: skip
            gaps = np.abs(table[:, 1:] - table[:, :1]).mean(axis=1)
            row["difference"] = float(gaps.mean())
            if row["kind"] == "volume" and table[:, 0].sum() > 0:
                row["relative_difference"] = float(gaps.sum() / table[:, 0].sum())
            rows.append(row)
    return rows


def _make_table(
    scanners: HeadValues, measure: Measure, reference: str, heads: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Return the heads with a value on every scanner, and [N, K], the reference first."""
    order = [reference, *(name for name in scanners if name != reference)]
    table = {head: [scanners[name][head][0].get(measure) for name in order] for head in heads}
    whole = {head: row for head, row in table.items() if None not in row}
    return list(whole), np.asarray(list(whole.values()), float).reshape(-1, len(order))


def list_head_rows(values: Mapping[str, HeadValues], *, reference: str) -> list[dict[str, Any]]:
    """List every value, for `heads.csv`; those of the reference once, as untranslated."""
    return [
        {
            "method": method, "scanner": scanner, "head": head, "scan": number, "kind": kind, "modality": modality,
            "region": region, "value": value,
        }
        for method, scanners in values.items()
        for scanner, heads in scanners.items()
        if method == RAW or scanner != reference
        for head, scans in heads.items()
        for number, scan in enumerate(scans, 1)
        for (kind, modality, region), value in scan.items()
    ]  # fmt: skip
