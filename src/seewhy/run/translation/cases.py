"""Cases of a translating run: chosen, translated, looked into, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from seewhy.errors import ConfigError, DataError
from seewhy.options import parse_options
from seewhy.run.run_loader import SavedRun, load_run, read_checkpoint
from seewhy.run.translation.qualitative.arrays import paired, read_arrays, write_arrays
from seewhy.run.translation.qualitative.attention import read_attention, without_attention, write_attention
from seewhy.run.translation.qualitative.drawing import draw_category, remove_figures
from seewhy.run.translation.qualitative.inference import Translated, check_model, translate_cases
from seewhy.run.translation.qualitative.options import CaseOptions
from seewhy.run.translation.qualitative.record import SIDES, changed_categories, read_cases, write_cases
from seewhy.run.translation.qualitative.selection import cases_of, comparison_of, select
from seewhy.run.translation.score_table import read_samples

__all__ = ["cases"]

MOST_APART = 0.005
"""Difference of two mean absolute errors on a scale of 1 that another precision explains."""


def cases(config: DictConfig) -> None:
    """Go through `cases.stages`, and say what was written."""
    options = _options(config.cases)
    run = load_run(config)
    check_model(run)
    console = Console()
    folder = run.folder.path / "cases"
    if "select" in options.stages:
        _select(run, options, folder)
    record = read_cases(folder / "case_ids.json")
    written: dict[str, list[Path]] = {name: [] for name in options.categories}
    if "infer" in options.stages:
        _infer(run, record, folder, written, console)
    if "attention" in options.stages:
        _attend(run, record, folder, written, console)
    if "figures" in options.stages:
        _draw(run, record, options, folder, written)
    console.print(_table(record, options.categories))
    console.print(f"cases: {folder / 'case_ids.json'}")
    for place in dict.fromkeys(file.parent for files in written.values() for file in files):
        count = sum(file.parent == place for files in written.values() for file in files)
        console.print(f"{count} files of them: {place}")


def _options(node: DictConfig | None) -> CaseOptions:
    if node is None:
        raise ConfigError("cases is not chosen; choose cases=default")
    chosen, problems = parse_options(CaseOptions, OmegaConf.to_container(node, resolve=True), where="cases")
    if problems:
        raise ConfigError("; ".join(problems))
    return CaseOptions(**chosen)


def _select(run: SavedRun, options: CaseOptions, folder: Path) -> None:
    """Choose by the scores that the run's evaluation left."""
    rows = read_samples(run.folder.path / "evaluation")
    samples = run.datamodule.sample_ids("test")
    tissue = run.datamodule.tissue_shares("test")
    compared = {direction: comparison_of(rows, direction, options.comparison) for direction in SIDES}
    comparisons = {direction: known for direction, known in compared.items() if known is not None}
    if not comparisons:
        there = sorted({row["comparison"] for row in rows})
        raise DataError(
            f"{run.folder.path / 'evaluation'} holds no scores of the comparison {options.comparison} "
            f"(there: {', '.join(there) or 'none'}); choose another by cases.comparison"
        )
    chosen = {}
    for direction, comparison in comparisons.items():
        candidates = cases_of(
            rows, samples, direction=direction, comparison=comparison, modality=options.modality,
            tissue=tissue, min_tissue=options.min_tissue,
        )  # fmt: skip
        chosen[direction] = select(candidates, options)
    checkpoint = read_checkpoint(run.checkpoint)
    facts = {
        "n_samples": len(samples),
        "selection_date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checkpoint": str(run.checkpoint),
        "checkpoint_epoch": int(checkpoint.get("epoch", -1)),
        "phantom": run.datamodule.is_phantom,
    }
    path = folder / "case_ids.json"
    try:
        before = read_cases(path)
    except DataError:
        before = None
    record = write_cases(path, chosen, options, comparisons=comparisons, facts=facts)
    remove_figures(_figures(run), changed_categories(before, record))


def _infer(
    run: SavedRun, record: Mapping[str, Any], folder: Path, written: Mapping[str, list[Path]], console: Console
) -> None:
    """Translate the cases of all categories, each once."""
    pairs = {category: paired(record[category]) for category in written}
    every = [case for own in pairs.values() for some in own.values() for case in some]
    translated = translate_cases(run, list(dict.fromkeys(case["id"] for case in every)))
    _check_scores(every, translated)
    for category, own in pairs.items():
        written[category].append(write_arrays(folder / f"inference_{category}.npz", own, translated))
    remove_figures(_figures(run), pairs)
    metadata = record["metadata"]
    if metadata["unit"] == "slice" and metadata["modality"] == "all":
        apart = [
            abs(float(translated[case["id"]].scores[case["comparison"], "mae"].mean()) - case["mae"]) for case in every
        ]
        if max(apart, default=0.0) > MOST_APART:
            console.print(
                f"the scores that cases were chosen by are not those of {run.checkpoint} (mean absolute errors differ "
                f"by up to {max(apart):.2g}); score it anew: python -m seewhy evaluate run={run.folder.path}"
            )


def _check_scores(cases: Sequence[Mapping[str, Any]], translated: Mapping[str, Translated]) -> None:
    """Refuse cases that were chosen by a comparison which is not possible by now."""
    lost = [case for case in cases if (case["comparison"], "mae") not in translated[case["id"]].scores]
    if lost:
        raise DataError(
            f"{len(lost)} cases (first: {lost[0]['id']}) were chosen by their similarity to the true counterpart, "
            "which these data have not; leave data.counterparts as it was, or choose by cases.comparison=cycle"
        )


def _attend(
    run: SavedRun, record: Mapping[str, Any], folder: Path, written: Mapping[str, list[Path]], console: Console
) -> None:
    """Keep the attention of the cases, where the networks have any."""
    without = without_attention(run)
    generators: Any = run.model.generators
    if len(without) == len(generators):
        console.print(f"{type(generators[without[0]]).__name__} has no attention; nothing of it is kept or drawn")
        for category in written:
            (folder / f"attention_{category}.npz").unlink(missing_ok=True)
        return
    bar = track(written.items(), "attention of cases", transient=True, console=Console(stderr=True))
    for category, files in bar:
        arrays = read_arrays(folder / f"inference_{category}.npz", record[category])
        files.append(write_attention(run, folder / f"attention_{category}.npz", arrays))


def _draw(
    run: SavedRun, record: Mapping[str, Any], options: CaseOptions, folder: Path, written: Mapping[str, list[Path]]
) -> None:
    """Draw all categories."""
    bar = track(written.items(), "drawing cases", transient=True, console=Console(stderr=True))
    for category, files in bar:
        arrays = read_arrays(folder / f"inference_{category}.npz", record[category])
        attention = read_attention(folder / f"attention_{category}.npz", arrays)
        files += draw_category(_figures(run), category, arrays, attention, record=record, modalities=options.drawn)


def _figures(run: SavedRun) -> Path:
    return run.folder.figures / "qualitative"


def _table(record: Mapping[str, Any], categories: Sequence[str]) -> Table:
    """The cases with their scores."""
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
            words = (direction, str(case["index"]), case["subject"], str(case["slice"]), case["comparison"], value)
            table.add_row(first, *words)
        table.add_section()
    return table
