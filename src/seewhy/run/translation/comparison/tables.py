"""Tables of a comparison: agreement of tissues and lesions between scanners, and distances to the reference scanner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from seewhy.batch import MODALITIES
from seewhy.metrics.agreement import measure_agreement, measure_gain
from seewhy.metrics.bootstrap import bootstrap_interval, percentile_bounds
from seewhy.metrics.gather import Row
from seewhy.metrics.translation.feature_distances import KernelTable, kernel_table
from seewhy.metrics.translation.scan_rule import LESION, TISSUES
from seewhy.run.translation.evaluation.distances import FeatureSample, build_sample, draw_groups, run_probes
from seewhy.run.translation.evaluation.recorder import RAW
from seewhy.run.translation.evaluation.settings import EvaluationSettings
from seewhy.run.translation.evaluation.tables import KINDS

__all__ = [
    "AGREEMENT_COLUMNS",
    "MEASURES",
    "REAL",
    "RESCAN",
    "SCANNER_COLUMNS",
    "HeadValues",
    "build_agreement_rows",
    "collect_values",
    "list_head_rows",
    "measure_kid",
    "measure_probes",
]

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
AGREEMENT_COLUMNS = (
    "method", "status", "phantom", "kind", "modality", "region", "heads", "scanners",
    *(f"{name}{end}" for name in ("icc", "ccc") for end in ("", "_low", "_high", "_better")),
    "difference", "relative_difference",
)  # fmt: skip
REAL = "real"
"""Method of the floor: real scans of the reference against those of other heads."""
ENDS = ("", "_low", "_high")
SCANNER_COLUMNS = (
    "method", "status", "phantom", "scanner", "heads", *(f"kid{end}" for end in ENDS),
    *(f"{probe}_{kind}{end}" for probe in ("network", "logistic") for kind in ("frozen", "retrained") for end in ENDS),
)  # fmt: skip


# -- agreement between scanners -------------------------------------------------------------------------------


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
            row = {**dict.fromkeys(AGREEMENT_COLUMNS), "method": name, "status": status, "phantom": phantom, **about}
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


# -- distances to the reference scanner -----------------------------------------------------------------------


def measure_kid(
    scanners: Mapping[str, Sequence[Row]],
    reference: Sequence[Row],
    methods: Sequence[str],
    *,
    standardized: bool,
    settings: EvaluationSettings,
    advance: Callable[[], None] = lambda: None,
) -> dict[tuple[str, str], Row]:
    """Measure KID, mean over modalities, of each method's scans to the reference's.

    Heads, not slices, are the sample: pairs of slices of one head are left out, also between scanners, so that the
    value is unbiased and does not depend on their number. Intervals (95 %) resample heads, all scanners alike.

    Args:
        scanners: scanner → records of its scans, one per head, with features of each method.
        reference: records of the reference's scans, one per head.
        methods: names of the methods.
        standardized: divide features by their spread among the reference's slices.
        settings: of `evaluate`.
        advance: called after each scanner.

    Returns:
        (method, scanner) → `kid`, `kid_low`, `kid_high`; scanner `mean` is the mean over scanners. Of `REAL`, the
        distance between two groups of half of the heads each, the ends contain 95 % of `evaluate.distances.repeats`
        random groups.
    """
    target = build_sample(reference, RAW)
    mean, spread = np.zeros(target.values.shape[1:]), np.ones(target.values.shape[1:])
    if standardized:
        mean, spread = target.values.mean(axis=0), target.values.std(axis=0)
        spread = np.where(spread > 1e-8, spread, 1)
    target = target._replace(values=(target.values - mean) / spread)
    whole: dict[tuple[str, str], float] = {}
    drawn: dict[tuple[str, str], np.ndarray | None] = {}
    for scanner, records in scanners.items():
        for method in methods:
            sample = build_sample(records, method)
            sample = sample._replace(values=(sample.values - mean) / spread)
            tables = _make_tables(sample, target)
            whole[method, scanner] = float(np.mean([table.distance() for table in tables]))
            options = {"resamples": settings.distances.resamples, "seed": settings.seed}
            resampled = [table.resampled(**options) for table in tables]
            known = [values for values in resampled if values is not None]
            drawn[method, scanner] = np.mean(known, axis=0) if len(known) == len(tables) else None
        advance()
    cells = {key: _cell(value, drawn[key]) for key, value in whole.items()}
    for method in methods:
        known = [values for scanner in scanners if (values := drawn[method, scanner]) is not None]
        cells[method, "mean"] = _cell(
            float(np.mean([whole[method, scanner] for scanner in scanners])),
            np.mean(known, axis=0) if len(known) == len(scanners) else None,
        )
    cells[REAL, "mean"] = _measure_floor(target, settings)
    return cells


def _measure_floor(target: FeatureSample, settings: EvaluationSettings) -> Row:
    """Measure the distances between random halves of the reference's heads."""
    names = target.names()
    draws = draw_groups(names, names, repeats=settings.distances.repeats, seed=settings.seed)
    squares = [table.within_second for table in _make_tables(target, target)]
    within = [KernelTable(square, square, square) for square in squares]
    floor = np.asarray([np.mean([table.distance(d.first, d.second) for table in within]) for d in draws])
    return _cell(float(np.mean(floor)), floor)


def _make_tables(sample: FeatureSample, target: FeatureSample) -> list[KernelTable]:
    """Make the table of each modality."""
    owners = (sample.patients, target.patients)
    return [
        kernel_table(sample.values[:, number], target.values[:, number], subjects=owners)
        for number in range(len(MODALITIES))
    ]


def _cell(value: float, values: np.ndarray | None) -> Row:
    ends = None if values is None else percentile_bounds(values)
    low, high = (None, None) if ends is None else ends
    return {"kid": value if np.isfinite(value) else None, "kid_low": low, "kid_high": high}


def measure_probes(
    scanners: Mapping[str, Sequence[Row]],
    reference: Sequence[Row],
    *,
    settings: EvaluationSettings,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[tuple[str, str], Row], str | None]:
    """Measure the balanced accuracy of site probes, with intervals over heads.

    A head's accuracy is the share of its slices that are classified correctly while it is held out: the mean over both
    scanners of the pair, over seeds, and for scanner `mean` over scanners. Chance is 0.5.

    Args:
        scanners: see `measure_kid`.
        reference: see `measure_kid`.
        settings: of `evaluate`.
        advance: called after every training.

    Returns:
        (method, scanner) → `<probe>_<kind>` with `_low` and `_high`, and None; or nothing and the reason.
    """
    collected: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for scanner, records in scanners.items():
        rows, reason = run_probes([*records, *reference], choice=settings.probe, seed=settings.seed, advance=advance)
        if reason is not None:
            return {}, reason
        for row in rows:
            if row["direction"] == "b2a":
                continue
            method = RAW if row["kind"] == "raw" else REAL if row["kind"] == "floor" else row["method"]
            for kind in KINDS[row["kind"]]:
                for place in (scanner, "mean"):
                    heads = collected.setdefault((method, place, f"{row['probe']}_{kind}"), {})
                    for head, share in row["patients"].items():
                        heads.setdefault(head, []).append(share)
    cells: dict[tuple[str, str], Row] = {}
    for (method, scanner, name), heads in collected.items():
        shares = [float(np.mean(several)) for several in heads.values()]
        interval = bootstrap_interval(shares, limits=(0.0, 1.0))
        ends: dict[str, Any] = {f"{name}_low": interval.low, f"{name}_high": interval.high} if interval else {}
        cells.setdefault((method, scanner), {}).update({name: float(np.mean(shares)), **ends})
    return cells, None
