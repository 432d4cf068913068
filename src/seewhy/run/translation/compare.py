"""Compare translation runs and simple methods on travelling heads: agreement between scanners in one table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from seewhy.data.domains.baselines import fit_baselines
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import file_sha256, write_csv, write_json
from seewhy.metrics.gather import Row
from seewhy.progress import slow_bar
from seewhy.run.checks import check_config
from seewhy.run.folder import code_version
from seewhy.run.loaded.saved_run import SavedRun, load_run
from seewhy.run.translation.comparison.members import ComparedRun, list_compared_runs
from seewhy.run.translation.comparison.tables import (
    AGREEMENT_COLUMNS,
    REAL,
    SCANNER_COLUMNS,
    HeadValues,
    build_agreement_rows,
    collect_values,
    list_head_rows,
    measure_kid,
    measure_probes,
)
from seewhy.run.translation.evaluation.distances import count_trainings
from seewhy.run.translation.evaluation.features import FeatureExtractor, build_features
from seewhy.run.translation.evaluation.recorder import (
    MODEL,
    RAW,
    REFERENCE,
    ScanMeasurer,
    SubjectRecorder,
    collect_training_quantiles,
)
from seewhy.run.translation.evaluation.settings import EvaluationSettings

__all__ = ["compare"]

LEAST_HEADS = 3
"""Fewest heads of an interval."""


@dataclass
class _Collected:
    """Records of all runs.

    Attributes:
        scanners: scanner → subject → record, with features and squares of every method.
        reference: subject → record of the reference scanner.
        statuses: method → `ok`, or why it has no row.
        runs: facts of each run.
        phantom: whether the scans are synthetic.
        measurer: measures tissues by the rule of the first run.
    """

    scanners: dict[str, dict[str, Row]] = field(default_factory=dict)
    reference: dict[str, Row] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    phantom: bool = False
    measurer: ScanMeasurer | None = None

    def add(self, member: ComparedRun, records: Sequence[Row]) -> None:
        """Add the records of one run, whose model gets the name of its method."""
        subjects = self.scanners.setdefault(member.scanner, {})
        for record in records:
            if record["domain"] == REFERENCE:
                self.reference[record["subject"]] = record
                continue
            known = subjects.setdefault(record["subject"], {**record, "features": {}, "squares": {}, "scans": []})
            for key in ("features", "squares"):
                named = {member.method if name == MODEL else name: values for name, values in record[key].items()}
                known[key] = {**named, **known[key]}
            measured = {row["method"] for row in known["scans"]}
            rows = [{**r, "method": member.method if r["method"] == MODEL else r["method"]} for r in record["scans"]]
            known["scans"] += [row for row in rows if row["method"] not in measured]


def compare(config: DictConfig) -> None:
    """Compare runs that harmonise the scans of travelling heads to one reference scanner, domain b.

    Each run harmonises one scanner, domain a. Written to `evaluate.folder`, or `comparison` in the folder that all runs
    share: `agreement.csv`, `scanners.csv`, `heads.csv`, `comparison.json` and a figure.

    Args:
        config: of `evaluate`, composed for the first of `config.runs`.

    Raises:
        ConfigError: invalid options, or runs that do not belong together.
        DataError: fewer than three heads that all scanners have seen.
    """
    members = list_compared_runs(config)
    for member in members:
        check_config(member.config, "evaluate", "data", "model", "callbacks", "trainer", "logger")
    settings = EvaluationSettings.of(config.evaluate)
    features = build_features(settings.features)
    collected = _Collected()
    for member in members:
        if not _collect(member, collected, settings, features):
            return  # another process writes
    methods = _list_methods(members, collected)
    heads = _find_heads(collected)
    comparison = _measure(collected, methods, heads, features, settings, reference=str(config.data.b))
    comparison = {**_collect_facts(config, collected, heads, features, settings), **comparison}
    _write(_find_folder(settings, [member.folder for member in members]), comparison)


def _collect(
    member: ComparedRun, collected: _Collected, settings: EvaluationSettings, features: FeatureExtractor
) -> bool:
    """Predict and measure the test subjects of one run; returns whether this is the first process."""
    recorder = SubjectRecorder(features=features, settings=settings)
    run = load_run(member.config, recorder)
    datamodule = run.datamodule
    if not isinstance(datamodule, BraTSDomainsDataModule):
        raise ConfigError(f"{member.folder} does not translate between two domains; its data are {type(datamodule)}")
    if run.trainer.world_size > 1:
        raise ConfigError("a comparison of several runs needs one process; add trainer.devices=1 trainer.num_nodes=1")
    names = [RAW]
    if member.scanner not in collected.scanners:
        names += [name for name in settings.baselines or () if name != RAW]
    if collected.reference:
        datamodule.domain = "a"  # the reference's scans are the same in all runs
    ready, missing = fit_baselines(names, collect_training_quantiles(datamodule))
    rule = None if collected.measurer is None else collected.measurer.rule
    measurer = collected.measurer = ScanMeasurer(datamodule, rule=rule)
    recorder.use(ready, scans=measurer)
    run.trainer.predict(run.model, datamodule, return_predictions=False)
    collected.add(member, recorder.records())
    collected.phantom |= datamodule.is_phantom
    for name in names:
        if name in missing or name not in collected.statuses:
            collected.statuses[name] = missing.get(name, "ok")
    collected.runs.append(_describe_run(member, run))
    return bool(run.trainer.is_global_zero)


def _describe_run(member: ComparedRun, run: SavedRun) -> dict[str, Any]:
    split: Any = run.datamodule.split_record()
    return {
        "run": str(member.folder), "method": member.method, "scanner": member.scanner, "seed": member.config.seed,
        "checkpoint": str(run.checkpoint), "sha256": file_sha256(run.checkpoint), "split": split.get("hash"),
        "data": run.datamodule.fingerprint(),
    }  # fmt: skip


def _list_methods(members: Sequence[ComparedRun], collected: _Collected) -> list[str]:
    """List the methods of all scanners; a model without a run for one of them gets a status that says so."""
    for method in dict.fromkeys(member.method for member in members):
        missing = [
            scanner
            for scanner, subjects in collected.scanners.items()
            if not all(method in record["features"] for record in subjects.values())
        ]
        collected.statuses[method] = f"no run translates {', '.join(missing)}" if missing else "ok"
    return [name for name, status in collected.statuses.items() if status == "ok"]


def _find_heads(collected: _Collected) -> list[str]:
    """Find the heads that all scanners have seen."""
    seen = [{row["patient"] for row in rows.values()} for rows in (collected.reference, *collected.scanners.values())]
    heads = [
        head
        for head in dict.fromkeys(r["patient"] for r in collected.reference.values())
        if all(head in s for s in seen)
    ]
    if len(heads) < LEAST_HEADS:
        raise DataError(
            f"only {len(heads)} of the evaluated patients were scanned by all of "
            f"{', '.join(collected.scanners)} and the reference; {LEAST_HEADS} or more are needed. Set "
            "data.patient_pattern if a patient's scans have different names, and name the travelling patients in "
            "data.test_patients"
        )
    return heads


def _measure(
    collected: _Collected,
    methods: Sequence[str],
    heads: Sequence[str],
    features: FeatureExtractor,
    settings: EvaluationSettings,
    *,
    reference: str,
) -> dict[str, Any]:
    """Measure agreement, distances and probes."""
    real = collect_values(collected.reference.values(), RAW)
    values: dict[str, HeadValues] = {
        method: {
            reference: real,
            **{name: collect_values(rows.values(), method) for name, rows in collected.scanners.items()},
        }
        for method in methods
    }
    agreement = build_agreement_rows(values, reference=reference, heads=heads, phantom=collected.phantom)
    scanners = {name: _choose_first(rows, heads) for name, rows in collected.scanners.items()}
    target = _choose_first(collected.reference, heads)
    with slow_bar("distances", len(scanners)) as advance:
        cells = measure_kid(
            scanners, target, methods, standardized=features.standardized, settings=settings, advance=advance
        )
    total = sum(count_trainings([*rows, *target], settings.probe) for rows in scanners.values())
    with slow_bar("site probes", total) as advance:
        probes, reason = measure_probes(scanners, target, settings=settings, advance=advance)
    about = {"phantom": collected.phantom, "heads": len(heads)}
    rows = []
    for method in (*methods, REAL):
        status = {RAW: "floor", REAL: "ceiling"}.get(method, "ok")
        for scanner in ("mean", *scanners):
            cell = {**cells.get((method, scanner), {}), **probes.get((method, scanner), {})}
            if cell:
                head = dict.fromkeys(SCANNER_COLUMNS)
                rows.append({**head, "method": method, "status": status, **about, "scanner": scanner, **cell})
    return {
        "agreement": agreement,
        "scanners": rows,
        "probes": {"not_estimated": reason, "chance": 0.5},
        "rows": list_head_rows(values, reference=reference),
    }


def _choose_first(subjects: Mapping[str, Row], heads: Sequence[str]) -> list[Row]:
    """Choose the first scan of each head, in the order of the heads."""
    first: dict[str, Row] = {}
    for record in subjects.values():
        first.setdefault(record["patient"], record)
    return [first[head] for head in heads]


def _collect_facts(
    config: DictConfig,
    collected: _Collected,
    heads: Sequence[str],
    features: FeatureExtractor,
    settings: EvaluationSettings,
) -> dict[str, Any]:
    assert collected.measurer is not None
    return {
        "name": config.name,
        "phantom": collected.phantom,
        "reference": str(config.data.b),
        "compared": list(collected.scanners),
        "heads": list(heads),
        "methods": collected.statuses,
        "modality": settings.lesion.modality,
        "rule": {"t1": list(collected.measurer.rule.cuts), "flair": collected.measurer.rule.lesion},
        "features": {"name": features.name, "weights": features.weights, "standardized": features.standardized},
        "predict_on": config.data.predict_on,
        "seed": settings.seed,
        "probe": {"seeds": settings.probe.seeds, "folds": settings.probe.folds, "steps": settings.probe.steps},
        "runs": collected.runs,
        "code": code_version(),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _find_folder(settings: EvaluationSettings, runs: Sequence[Path]) -> Path:
    """Find the folder of the results: below the folder that all runs share."""
    if settings.folder is not None:
        return Path(settings.folder) / "comparison"
    return Path(os.path.commonpath([run.absolute().parent for run in runs])) / "comparison"


def _write(folder: Path, comparison: dict[str, Any]) -> None:
    from seewhy.figures.style import write_figure
    from seewhy.figures.translation.comparison import comparison_figure, print_comparison

    write_csv(folder / "heads.csv", comparison.pop("rows"))
    write_csv(folder / "agreement.csv", comparison["agreement"], columns=AGREEMENT_COLUMNS)
    write_csv(folder / "scanners.csv", comparison["scanners"], columns=SCANNER_COLUMNS)
    write_json(folder / "comparison.json", comparison)
    write_figure(folder / "comparison.png", comparison_figure(comparison), formats=("png", "pdf"))
    print_comparison(comparison, Console(), folder=folder)
