"""Evaluate a finished translation run against raw scans, simple methods, and a floor of real scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from seewhy.batch import MODALITIES
from seewhy.callbacks.cases import WriteCases
from seewhy.data.domains.baselines import fit_baselines
from seewhy.data.domains.datamodule import BraTSDomainsDataModule
from seewhy.data.domains.store import DOMAINS
from seewhy.errors import ConfigError
from seewhy.io.atomic import file_sha256, replace_non_finite, write_csv, write_json
from seewhy.metrics.gather import Row
from seewhy.progress import slow_bar
from seewhy.run.checks import check_config
from seewhy.run.executor import print_output
from seewhy.run.figure_files import with_figure_options
from seewhy.run.folder import code_version
from seewhy.run.loaded.saved_run import SavedRun, load_run, read_checkpoint
from seewhy.run.pages.folder_pages import write_evaluation_page
from seewhy.run.processes.sharing import read_sharing_options, share_prediction, submit_shared
from seewhy.run.tracking.contents import log_job
from seewhy.run.tracking.session import track_job
from seewhy.run.translation.compare import compare
from seewhy.run.translation.evaluation.distances import count_trainings, measure_distances, run_probes, summarize_probes
from seewhy.run.translation.evaluation.features import FeatureExtractor, build_features
from seewhy.run.translation.evaluation.recorder import MODEL, RAW, SubjectRecorder, collect_training_quantiles
from seewhy.run.translation.evaluation.settings import EvaluationSettings
from seewhy.run.translation.evaluation.tables import (
    COLUMNS,
    build_cycle_results,
    build_evaluation_results,
    build_evaluation_table,
    summarize_lesions,
    summarize_similarity,
)
from seewhy.run.translation.score_table import write_samples

__all__ = ["evaluate"]


@with_figure_options
def evaluate(config: DictConfig) -> None:
    """Evaluate a run on the subjects of `data.predict_on`, and write the results to a folder of the run.

    The folder is `<run>/evaluation` for test subjects, where `cases` reads the scores, and `<run>/evaluation_<part>`
    for others.

    Several runs are compared on travelling heads, see `seewhy.run.translation.compare.compare`.

    With `job.shared=true` the subjects are shared with all processes that start the same command, and
    `job.executor=submitit` starts several; distances and site probes are computed by one of them.

    Raises:
        ConfigError: invalid options, or a run that does not translate between two domains.
        DataError: a domain without training subjects.
    """
    job = read_sharing_options(config)
    if config.runs is not None:
        if job.is_used:
            raise ConfigError("job.shared and job.executor share the subjects of one run; evaluate each run by itself")
        compare(config)
        return
    check_config(config, "evaluate", "job", "data", "model", "callbacks", "trainer", "logger")
    settings = EvaluationSettings.of(config.evaluate)
    folder = _find_folder(config, settings)
    if job.executor is not None:
        submit_shared(config, evaluate, job, name="seewhy-evaluate", output=folder)
        print_output(folder)
        return
    features = build_features(settings.features)
    recorder = SubjectRecorder(features=features, settings=settings)
    run = load_run(config, recorder, WriteCases(folder=str(folder / "cases")))
    if not isinstance(run.datamodule, BraTSDomainsDataModule):
        raise ConfigError(
            f"evaluate takes runs that translate between two domains, as experiment=demo/cyclegan does; this run's "
            f"data are {type(run.datamodule).__name__}"
        )
    _check_domains(run.datamodule)
    sharers = share_prediction(config, run, job, folder=folder)
    with track_job(config, run.trainer.loggers, run.folder, job="evaluate") as session, sharers:
        written = _evaluate(config, run, recorder, settings, features)
        log_job(session, run, job="evaluate", written=written)


def _evaluate(
    config: DictConfig,
    run: SavedRun,
    recorder: SubjectRecorder,
    settings: EvaluationSettings,
    features: FeatureExtractor,
) -> list[Path]:
    """Predict, measure and write; returns the files on the process that has written them."""
    assert isinstance(run.datamodule, BraTSDomainsDataModule)
    names = [RAW, *(name for name in settings.baselines or () if name != RAW)]
    ready, missing = fit_baselines(names, collect_training_quantiles(run.datamodule))
    recorder.use(ready)
    run.trainer.predict(run.model, run.datamodule, return_predictions=False)
    if recorder not in run.trainer.callbacks:  # type: ignore[attr-defined]
        return []  # another process has joined the results
    records = recorder.records()
    rows = {name: scores.patient_rows() for name, scores in recorder.scores.items()}
    samples = recorder.scores[MODEL].rows()
    if not run.trainer.is_global_zero:
        return []
    evaluation = _measure(records, rows, features, settings)
    statuses = {name: "ok" if name in ready else missing[name] for name in names}
    evaluation = {**_collect_facts(run, config, records, features), "methods": {**statuses, MODEL: "ok"}, **evaluation}
    folder = _find_folder(config, settings)
    _write(folder, evaluation, samples, rows[MODEL], run)
    return [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".json", ".png", ".pdf")]


def _find_folder(config: DictConfig, settings: EvaluationSettings) -> Path:
    """Folder of the results."""
    part = config.data.predict_on
    return Path(settings.folder or config.run) / ("evaluation" if part == "test" else f"evaluation_{part}")


def _check_domains(datamodule: BraTSDomainsDataModule) -> None:
    """Raise an error for subjects of one domain only, before any of them is translated."""
    domains = {subject.domain for subject in datamodule.items_of("predict")}
    if len(domains) < 2:
        raise ConfigError(
            f"data.domain={datamodule.domain}, data.predict_on={datamodule.predict_on}: evaluate compares two "
            f"domains, but there are subjects of {' '.join(sorted(domains)) or 'none'}; try data.domain=both or "
            "data.predict_on=all"
        )


def _measure(
    records: Sequence[Row],
    patient_rows: Mapping[str, list[Row]],
    features: FeatureExtractor,
    settings: EvaluationSettings,
) -> dict[str, Any]:
    """Measure similarity, distances, probes and lesions of all methods."""
    methods = sum(len(next(row for row in records if row["domain"] == domain)["features"]) for domain in DOMAINS)
    with slow_bar("distances", len(MODALITIES) * methods) as advance:
        distances = measure_distances(
            records, standardized=features.standardized, options=settings.distances, seed=settings.seed, advance=advance
        )
    with slow_bar("site probes", count_trainings(records, settings.probe)) as advance:
        probed, reason = run_probes(records, choice=settings.probe, seed=settings.seed, advance=advance)
    lesions = [row for record in records for row in record["lesions"]]
    return {
        "similarity": {name: summarize_similarity(rows) for name, rows in patient_rows.items()},
        "distances": distances,
        "probes": {"not_estimated": reason, "chance": 0.5, "summary": summarize_probes(probed)},
        "lesions": {"modality": settings.lesion.modality, "summary": summarize_lesions(lesions)},
        "rows": {
            "subjects": [{"method": name, **row} for name, rows in patient_rows.items() for row in rows],
            "probes": probed,
            "lesions": lesions,
        },
    }


def _collect_facts(
    run: SavedRun, config: DictConfig, records: Sequence[Row], features: FeatureExtractor
) -> dict[str, Any]:
    """Collect the facts of the run and its data that `evaluation.json` begins with."""
    rows = {domain: [row for row in records if row["domain"] == domain] for domain in DOMAINS}
    slices = {domain: sum(row["slices"] for row in several) for domain, several in rows.items()}
    few = [domain for domain, count in slices.items() if count <= features.dimensions]
    note = None
    if few:
        counts = ", ".join(f"{slices[domain]} of domain {domain}" for domain in few)
        note = (
            f"fewer slices ({counts}) than the {features.dimensions} dimensions: covariances are singular, so "
            "Fréchet distances can be compared within this table only"
        )
    split: Any = run.datamodule.split_record()
    return {
        "name": config.name,
        "run": str(run.folder.path),
        "phantom": run.datamodule.is_phantom,
        "checkpoint": {"path": str(run.checkpoint), "sha256": file_sha256(run.checkpoint)},
        "split": split.get("hash"),
        "data": run.datamodule.fingerprint(),
        "code": code_version(),
        "seed": config.evaluate.seed,
        "seeds": list(range(config.evaluate.seed, config.evaluate.seed + config.evaluate.probe.seeds)),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "predict_on": config.data.predict_on,
        "subjects": {domain: len(several) for domain, several in rows.items()},
        "patients": {domain: len({row["patient"] for row in several}) for domain, several in rows.items()},
        "slices": slices,
        "features": {
            "name": features.name, "dimensions": features.dimensions, "weights": features.weights,
            "standardized": features.standardized, "note": note,
        },
    }  # fmt: skip


def _write(
    folder: Path, evaluation: dict[str, Any], samples: Sequence[Row], patients: Sequence[Row], run: SavedRun
) -> None:
    from seewhy.figures.style import write_figure
    from seewhy.figures.translation.evaluation import evaluation_figure, print_evaluation

    write_samples(folder, samples)
    table = build_evaluation_table(evaluation)
    write_csv(folder / "table.csv", table, columns=COLUMNS)
    write_json(folder / "evaluation.json", replace_non_finite(evaluation))
    header = _header(evaluation, samples, run)
    features = evaluation["features"]["name"]
    results = build_evaluation_results(header, samples, evaluation["distances"], features=features)
    write_json(folder / "evaluation_results.json", replace_non_finite(results))
    write_json(folder / "cycle_consistency_results.json", replace_non_finite(build_cycle_results(header, samples)))
    figure = evaluation_figure(evaluation, table)
    write_figure(folder / "evaluation.png", figure, formats=("png", "pdf"))
    write_csv(folder / "patients.csv", patients)
    page = write_evaluation_page(folder)
    console = Console()
    print_evaluation(evaluation, table, console, folder=folder)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


def _header(evaluation: Mapping[str, Any], samples: Sequence[Row], run: SavedRun) -> dict[str, Any]:
    """Build the first entries of the reference's files."""
    checkpoint = read_checkpoint(run.checkpoint)
    states = [state for state in checkpoint.get("callbacks", {}).values() if isinstance(state, dict)]
    scores = [state["best_model_score"] for state in states if "best_model_score" in state]
    best = next((float(score) for score in scores[:1] if isinstance(score, int | float | Tensor)), None)
    return {
        "checkpoint": str(run.checkpoint),
        "checkpoint_epoch": checkpoint.get("epoch"),
        "checkpoint_best_metric": best,
        "test_samples": len({row["id"] for row in samples}),
        "evaluation_timestamp": evaluation["written"],
        "phantom": evaluation["phantom"],
    }
