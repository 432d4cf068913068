"""Select, translate and draw cases of a translation run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from seewhy.errors import ConfigError, DataError
from seewhy.options import parse_options
from seewhy.run.checks import check_config
from seewhy.run.figure_files import with_figure_options
from seewhy.run.loaded.saved_run import SavedRun, load_run, read_checkpoint
from seewhy.run.processes.sharing import (
    SharingOptions,
    find_notes,
    mark_unshared,
    read_sharing_options,
    submit_shared,
)
from seewhy.run.tracking.contents import log_job
from seewhy.run.tracking.session import track_job
from seewhy.run.translation.qualitative.arrays import pair_cases, read_arrays, write_arrays
from seewhy.run.translation.qualitative.case_list import (
    SIDES,
    CaseOptions,
    find_changed_categories,
    read_cases,
    write_cases,
)
from seewhy.run.translation.qualitative.figures import (
    draw_category,
    list_without_attention,
    read_attention,
    remove_figures,
    write_attention,
)
from seewhy.run.translation.qualitative.inference import TranslatedSlice, check_model, translate_cases
from seewhy.run.translation.qualitative.selection import choose_comparison, collect_cases, select_cases
from seewhy.run.translation.score_table import read_samples
from seewhy.sharing.parts import check_written
from seewhy.sharing.tasks import SharedRound, Task

__all__ = ["cases"]

MOST_APART = 0.005
"""Difference of two mean absolute errors on a scale of 1 that another precision can explain."""
CASES = "case_ids.json"
"""File of the selected cases."""


@with_figure_options
def cases(config: DictConfig) -> None:
    """Run `cases.stages` and print what was written.

    With `job.shared=true` the categories are shared with all processes that start the same command;
    `job.executor=submitit` starts several.

    Raises:
        ConfigError: invalid options, or a run whose model does not translate.
        DataError: scores, cases or arrays of an earlier stage are missing or do not fit.
    """
    check_config(config, "cases", "job", "data", "model", "callbacks", "trainer", "logger")
    job = read_sharing_options(config)
    if job.executor is None:
        _run_command(config)
        return
    options, folder = _read_options(config)
    results = submit_shared(config, _run_command, job, name="seewhy-cases", output=folder)
    written: dict[str, list[Path]] = next(filter(None, results), {})
    _print_written(options, folder, written)


@with_figure_options
def _run_command(config: DictConfig) -> dict[str, list[Path]]:
    """Run the stages in this process, and return the files of each category."""
    (options, folder), job = _read_options(config), read_sharing_options(config)
    run = load_run(config)
    check_model(run)
    with track_job(config, run.trainer.loggers, run.folder, job="cases") as session:
        if job.shared:
            written = _share_stages(config, run, options, job, folder)
        else:
            mark_unshared(folder)
            written = _run_stages(run, options, folder)
        files = [file for several in written.values() for file in several]
        log_job(session, run, job="cases", written=[folder / CASES, *files] if written else [])
    return written


def _run_stages(run: SavedRun, options: CaseOptions, folder: Path) -> dict[str, list[Path]]:
    """Run the stages, and return the files of each category."""
    if "select" in options.stages:
        _select(run, options, folder)
    written: dict[str, list[Path]] = {name: [] for name in options.categories}
    _process(run, options, folder, written)
    _print_written(options, folder, written)
    return written


def _share_stages(
    config: DictConfig, run: SavedRun, options: CaseOptions, job: SharingOptions, folder: Path
) -> dict[str, list[Path]]:
    """Run the stages together with other processes, category by category.

    Returns:
        In the process that prints the table as `_run_stages`; empty in the others.
    """
    run.datamodule.num_workers = 0
    categories: dict[str, str] = {f"category-{number:02d}": name for number, name in enumerate(options.categories)}
    needed = frozenset({"select"})
    tasks = [Task("select"), *(Task(key, needed) for key in categories), Task("results", frozenset(categories))]
    result: dict[str, list[Path]] = {}
    own = 0
    with SharedRound.join(find_notes(config, run, folder), lease=job.lease) as present:
        for task in present.each(tasks):
            if "select" in options.stages and task.key != "select":
                with present.joining():
                    check_written([folder / CASES])
            if task.key in categories:
                written: dict[str, list[Path]] = {categories[task.key]: []}
                _process(run, options, folder, written)
                own += 1
                present.tasks.complete(task, [str(path) for path in written[categories[task.key]]])
            elif task.key == "results":
                every = {name: list(map(Path, present.tasks.done[key])) for key, name in categories.items()}
                with present.joining():
                    check_written(path for files in every.values() for path in files)
                _print_written(options, folder, every)
                result = every
            elif "select" in options.stages:
                _select(run, options, folder)
    Console().print(
        f"this process: {own} of {len(categories)} categories, {present.tasks.taken_over} tasks of lost processes",
        soft_wrap=True,
    )
    return result


def _process(run: SavedRun, options: CaseOptions, folder: Path, written: dict[str, list[Path]]) -> None:
    """Run the stages after the selection for some categories, and add the files to them."""
    console, figures = Console(), _find_figures(run, options)
    record = read_cases(folder / CASES)
    if "infer" in options.stages:
        _infer(run, record, folder, written, console, figures)
    if "attention" in options.stages:
        _extract_attention(run, record, folder, written, console, full=options.full_attention)
    if "figures" in options.stages:
        for category, files in track(written.items(), "drawing cases", transient=True, console=Console(stderr=True)):
            arrays = read_arrays(folder / f"inference_{category}.npz", record[category])
            attention = read_attention(folder / f"attention_{category}.npz", arrays)
            files += draw_category(
                figures,
                category,
                arrays,
                attention,
                record=record,
                modalities=options.figure_modalities,
                rows=options.rows,
            )


def _print_written(options: CaseOptions, folder: Path, written: Mapping[str, Sequence[Path]]) -> None:
    """Print the cases and where their files are."""
    console, record = Console(), read_cases(folder / CASES)
    console.print(_build_table(record, options.categories))
    console.print(f"cases: {folder / CASES}", soft_wrap=True)
    parents = [file.parent for files in written.values() for file in files]
    for parent in dict.fromkeys(parents):
        console.print(f"{parents.count(parent)} files of them: {parent}", soft_wrap=True)


def _read_options(config: DictConfig) -> tuple[CaseOptions, Path]:
    """Options of the cases, and their folder."""
    if config.cases is None:
        raise ConfigError("cases is not chosen; choose cases=default")
    options = parse_options(CaseOptions, OmegaConf.to_container(config.cases, resolve=True), where="cases")
    return options, Path(config.run) / "cases" if options.folder is None else Path(options.folder)


def _select(run: SavedRun, options: CaseOptions, folder: Path) -> None:
    """Select cases by the scores of the run's evaluation, and remove figures of cases that changed."""
    rows = read_samples(run.folder.path / "evaluation")
    samples = run.datamodule.sample_ids("test")
    tissue = run.datamodule.tissue_shares("test")
    choices = {direction: choose_comparison(rows, direction, options.comparison) for direction in SIDES}
    comparisons = {direction: comparison for direction, comparison in choices.items() if comparison is not None}
    if not comparisons:
        available = sorted({row["comparison"] for row in rows})
        raise DataError(
            f"{run.folder.path / 'evaluation'} holds no scores of the comparison {options.comparison} "
            f"(available: {', '.join(available) or 'none'}); choose another by cases.comparison"
        )
    chosen = {}
    for direction, comparison in comparisons.items():
        candidates = collect_cases(
            rows, samples, direction=direction, comparison=comparison, modality=options.modality,
            tissue=tissue, min_tissue=options.min_tissue,
        )  # fmt: skip
        if not candidates:
            raise DataError(
                f"{run.folder.path / 'evaluation'} has no slice of {direction} with scores ({options.modality}) and "
                f"cases.min_tissue={options.min_tissue}; score it again: python -m seewhy evaluate run=…, or lower "
                "cases.min_tissue"
            )
        chosen[direction] = select_cases(candidates, options)
    checkpoint = read_checkpoint(run.checkpoint)
    facts = {
        "n_samples": len(samples),
        "selection_date": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": str(run.checkpoint),
        "checkpoint_epoch": int(checkpoint.get("epoch", -1)),
        "phantom": run.datamodule.is_phantom,
    }
    path = folder / CASES
    try:
        before = read_cases(path)
    except DataError:
        before = None
    record = write_cases(path, chosen, options, comparisons=comparisons, facts=facts)
    remove_figures(_find_figures(run, options), find_changed_categories(before, record))


def _infer(
    run: SavedRun,
    record: Mapping[str, Any],
    folder: Path,
    written: Mapping[str, list[Path]],
    console: Console,
    figures: Path,
) -> None:
    """Translate the cases of all categories, each case once."""
    pairs = {category: pair_cases(record[category]) for category in written}
    every = [case for entry in pairs.values() for selected in entry.values() for case in selected]
    translated = translate_cases(run, list(dict.fromkeys(case["id"] for case in every)))
    _check_comparisons(every, translated)
    for category, entry in pairs.items():
        written[category].append(write_arrays(folder / f"inference_{category}.npz", entry, translated))
    remove_figures(figures, pairs)
    metadata = record["metadata"]
    if metadata["unit"] == "slice" and metadata["modality"] == "all":
        differences = [
            abs(float(translated[case["id"]].scores[case["comparison"], "mae"].mean()) - case["mae"])
            for case in every
            if case.get("mae") is not None
        ]
        if max(differences, default=0.0) > MOST_APART:
            console.print(
                f"the scores that cases were selected by are not those of {run.checkpoint} (mean absolute errors "
                f"differ by up to {max(differences):.2g}); score it again: "
                f"python -m seewhy evaluate run={run.folder.path}"
            )


def _check_comparisons(cases: Sequence[Mapping[str, Any]], translated: Mapping[str, TranslatedSlice]) -> None:
    """Raise an error for cases that were selected by a comparison that is no longer possible."""
    lost = [case for case in cases if (case["comparison"], "mae") not in translated[case["id"]].scores]
    if lost:
        raise DataError(
            f"{len(lost)} cases (first: {lost[0]['id']}) were selected by their similarity to the true counterpart, "
            "but these data have no counterparts; restore data.counterparts, or select by cases.comparison=cycle"
        )


def _extract_attention(
    run: SavedRun,
    record: Mapping[str, Any],
    folder: Path,
    written: Mapping[str, list[Path]],
    console: Console,
    *,
    full: bool,
) -> None:
    """Write the attention of the cases if any network has attention."""
    without = list_without_attention(run)
    generators: Any = run.model.generators
    if len(without) == len(generators):
        console.print(f"{type(generators[without[0]]).__name__} has no attention; no attention is written or drawn")
        for category in written:
            (folder / f"attention_{category}.npz").unlink(missing_ok=True)
        return
    for category, files in track(written.items(), "attention of cases", transient=True, console=Console(stderr=True)):
        arrays = read_arrays(folder / f"inference_{category}.npz", record[category])
        files.append(write_attention(run, folder / f"attention_{category}.npz", arrays, full=full))


def _find_figures(run: SavedRun, options: CaseOptions) -> Path:
    """Folder of the figures."""
    return run.folder.figures / "qualitative" if options.folder is None else Path(options.folder) / "figures"


def _build_table(record: Mapping[str, Any], categories: Sequence[str]) -> Table:
    """Build a table of the cases and their scores."""
    metadata = record["metadata"]
    metric = metadata["metric"]
    phantom = " (phantom)" if metadata["phantom"] else ""
    table = Table(title=f"cases by {metric}{phantom}", title_justify="left")
    for name in ("category", "direction", "index", "subject", "slice", "compared", metric):
        table.add_column(name, overflow="fold", justify="right" if name in ("index", "slice", metric) else "left")
    for category in categories:
        for number, (direction, case) in enumerate(
            (direction, case) for direction, side in SIDES.items() for case in record[category][f"cases{side}"]
        ):
            value = "∞" if case[metric] is None else f"{case[metric]:.3f}"
            first = category if number == 0 else ""
            cells = (direction, str(case["index"]), case["subject"], str(case["slice"]), case["comparison"], value)
            table.add_row(first, *cells)
        table.add_section()
    return table
