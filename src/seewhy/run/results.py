"""Write the results of a finished run: results.json, patients.csv, figures, report and a table in the terminal."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from seewhy.figures.labels import parse_number
from seewhy.io.atomic import file_sha256, write_csv, write_json
from seewhy.io.documents import read_csv
from seewhy.models.protocols import HasMeasuredBuffers, ReportsResults
from seewhy.run.folder import RunFolder
from seewhy.run.model_card import write_model_card
from seewhy.run.pages.run_page import write_run_page
from seewhy.tracking.run import Outcomes
from seewhy.wording import LESION, TargetWords

__all__ = ["describe_choice", "print_results", "write_results"]

DRAWN = ("dice", "cldice", "auprc", "lesion_dice")
"""Measures in the figure of scores."""


def write_results(
    folder: RunFolder,
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    config: DictConfig,
    *,
    phantom: bool,
    model: object = None,
    objective: float | None = None,
    chosen_by: str | None = None,
    outcomes: Outcomes | None = None,
    words: TargetWords = LESION,
) -> None:
    """Write files, figures and report of a run's scores.

    Args:
        folder: of the run.
        metrics: all logged scalars of the last validation and of the test.
        rows: scores of every tested patient and map, or of every tested case, for `patients.csv`.
        config: of the job.
        phantom: whether the data are synthetic.
        model: the model; one that `ReportsResults` adds its tables and pictures.
        objective: metric that a sweep optimises.
        chosen_by: validation score that chose the best checkpoint; None if the last one is used.
        outcomes: classes and probabilities of what was tested, of a classifier.
        words: of the data set.
    """
    checkpoint = folder.checkpoints / "best.ckpt"
    write_json(
        folder.path / "results.json",
        {
            "name": config.name,
            "phantom": phantom,
            "seed": config.seed,
            "objective": objective,
            "objective_name": config.get("objective"),
            "chosen_by": chosen_by,
            "checkpoint": file_sha256(checkpoint) if checkpoint.is_file() else None,
            "metrics": {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)},
            "choice": describe_choice(metrics, chosen_by, model=model, words=words),
            "words": asdict(words),
            "warnings": _find_warnings(folder, metrics),
            "versions": _list_versions(),
            "written": datetime.now().astimezone().isoformat(timespec="seconds"),
            "tables": _save_tables(model, metrics, phantom=phantom),
            "pictures": dict(model.result_pictures) if isinstance(model, ReportsResults) else {},
        },
    )
    if rows:
        write_csv(folder.path / "patients.csv", rows)
    _draw(folder, metrics, rows, config, phantom=phantom, chosen_by=chosen_by, words=words)
    _draw_curves(folder, outcomes, config, phantom=phantom)
    write_run_page(folder.path)
    if isinstance(model, nn.Module) and folder.has_checkpoint():
        write_model_card(folder, model)


def _list_versions() -> dict[str, str]:
    """Versions of what the scores may depend on."""
    versions = {name: version(name) for name in ("torch", "lightning", "monai", "numpy")}
    return {"Python": platform.python_version(), **versions}


def _save_tables(model: object, metrics: Mapping[str, float], *, phantom: bool) -> list[dict[str, Any]]:
    """The tables that a model adds to the report, as plain data."""
    if not isinstance(model, ReportsResults):
        return []
    return [
        {"columns": [*table.columns], "rows": [[*row] for row in table.rows], "caption": table.caption,
         "quiet": [*table.quiet]}
        for table in model.result_blocks(metrics, phantom=phantom)
    ]  # fmt: skip


FITTED = {
    "temperature": (1.0, "the temperature of its probabilities"),
    "presence_threshold": (0.0, "the threshold below which a patient is taken to be {absent}"),
    "unclear_level": (0.5, "the level of evidence where edges are unclear (of validation and training patients)"),
}
"""What models fit to patients of validation, or also of training: buffer → value without a fit, and description."""


def describe_choice(
    metrics: Mapping[str, float], chosen_by: str | None, *, model: object = None, words: TargetWords = LESION
) -> str:
    """Describe on which split the tested checkpoint and what is calibrated were chosen.

    Example:
        >>> from seewhy.run.results import describe_choice
        >>> describe_choice({"val/loss": 0.25}, "val/loss")
        'chosen on the validation split: the checkpoint by val/loss (0.25)'
        >>> describe_choice({}, None)
        'nothing was chosen: the last checkpoint is tested'
    """
    fitted = ""
    if isinstance(model, HasMeasuredBuffers) and isinstance(model, nn.Module):
        for name in [name for name in FITTED if name in model.measured_buffers]:
            start, description = FITTED[name]
            fitted += words.fill(f", {description}") * bool((model.get_buffer(name) != start).any())
    if chosen_by is None:
        return "nothing was chosen: the last checkpoint is tested" + f"; fitted: {fitted[2:]}" * bool(fitted)
    value = f" ({metrics[chosen_by]:.4g})" if chosen_by in metrics else ""
    return f"chosen on the validation split: the checkpoint by {chosen_by}{value}{fitted}"


def _draw(
    folder: RunFolder,
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Any]],
    config: DictConfig,
    *,
    phantom: bool,
    chosen_by: str | None,
    words: TargetWords,
) -> None:
    """Draw the figures of scores and of training curves."""
    from seewhy.figures.results import scores_figure
    from seewhy.figures.style import write_figure
    from seewhy.figures.training import training_curves

    table = folder.path / "metrics.csv"
    if table.is_file():
        history = read_csv(table).rows
        if _has_curves(history):
            marks = _find_chosen_step(history, metrics, chosen_by)
            curves = training_curves(history, title=config.name, marks=marks, words=words)
            write_figure(folder.figures / "training.png", curves)
    if any(row.get(measure) is not None for row in rows for measure in DRAWN):
        shown = {"measures": DRAWN, "title": config.name, "phantom": phantom, "words": words}
        figure = scores_figure(rows, metrics, prefix="test/", **shown)
        write_figure(folder.figures / "scores.png", figure)
    if any("prediction" in row for row in rows):
        from seewhy.figures.classification import grading_figure

        figure = grading_figure(rows, title=config.name, ece=metrics.get("test/ece"), phantom=phantom)
        write_figure(folder.figures / "grading.png", figure)


def _draw_curves(folder: RunFolder, outcomes: Outcomes | None, config: DictConfig, *, phantom: bool) -> None:
    """Draw the ROC and precision-recall curves of classes that the test set has and lacks."""
    if outcomes is None:
        return
    from seewhy.figures.classification import curves_figure
    from seewhy.figures.style import write_figure
    from seewhy.metrics.classification.probabilities import precision_recall_points, roc_points

    curves = {}
    for column, name in enumerate(outcomes.classes):
        truth, probability = outcomes.truth[:, column], outcomes.probability[:, column]
        roc, recall = roc_points(truth, probability), precision_recall_points(truth, probability)
        if roc is not None and recall is not None:
            curves[name] = (roc, recall, float(truth.mean()))
    if curves:
        write_figure(folder.figures / "curves.png", curves_figure(curves, title=config.name, phantom=phantom))


def _find_chosen_step(
    history: Sequence[Mapping[str, str]], metrics: Mapping[str, float], chosen_by: str | None
) -> dict[str, float]:
    """Step of the chosen checkpoint: where its score was measured first; empty if nothing was chosen."""
    if chosen_by is None or chosen_by not in metrics:
        return {}
    for row in history:
        value, step = parse_number(row.get(chosen_by)), parse_number(row.get("step"))
        if value is not None and step is not None and math.isclose(value, metrics[chosen_by], rel_tol=1e-5):
            return {"chosen checkpoint": step}
    return {}


def _has_curves(history: Sequence[Mapping[str, str]]) -> bool:
    """Return whether there are training curves; a run that continues after its last step only tests."""
    return any(cell for row in history for name, cell in row.items() if name.startswith(("train/", "val/")))


def _find_warnings(folder: RunFolder, metrics: Mapping[str, float]) -> list[str]:
    """List what makes the scores doubtful, by the scores and by the tables of checks in the run folder."""
    maps = _read_map_warnings(folder.path / "doubts.csv")
    return _find_shortcut(metrics) + maps + _read_lesion_warnings(folder.path / "lesions.csv")


def _find_shortcut(metrics: Mapping[str, float]) -> list[str]:
    """Warn if the classifier's AUROC is not above what the position and area of slices reach."""
    floors = {name: metrics.get(f"test/floor_{name}/auroc") for name in ("position", "area", "position_area")}
    known = {name: value for name, value in floors.items() if value is not None}
    auroc = metrics.get("test/auroc")
    if auroc is None or not known or auroc > max(known.values()):
        return []
    best = max(known, key=lambda name: known[name])
    return [
        f"The classifier's AUROC of {auroc:.3f} is not above what the {best.replace('_', ' and ')} of a slice reach "
        f"without a network ({known[best]:.3f}): it may see only how large a slice is."
    ]


def _read_map_warnings(path: Path) -> list[str]:
    """Read the warnings about implausible maps, patient by patient."""
    if not path.is_file():
        return []
    rows = [row for row in read_csv(path).rows if row.get("doubts")]
    return [
        f"Patient {row['patient']}: {row['doubts']} ({row['map']}; found without masks, see doubts.csv)" for row in rows
    ]


def _read_lesion_warnings(path: Path) -> list[str]:
    """Read the problems of a translation's lesion check, patient by patient and modality by modality."""
    if not path.is_file():
        return []
    return [
        f"Patient {row['patient']}, {row['modality']}, {row['direction']}: {row['problem']} (place: {row['place']}; "
        "see lesions.csv)"
        for row in read_csv(path).rows
        if row.get("problem")
    ]


def print_results(
    folder: RunFolder,
    metrics: Mapping[str, float],
    explained: Mapping[str, Any],
    *,
    model: object,
    phantom: bool,
    chosen_by: str | None = None,
    words: TargetWords = LESION,
) -> None:
    """Print the tables of scores and the paths of written files."""
    from seewhy.figures.results import results_table
    from seewhy.reporting.report import print_explanations

    console = Console()
    if any(name.startswith("test/") for name in metrics):
        for kind in ("classification", "segmentation", "false positives"):
            table = results_table(metrics, phantom=phantom, kind=kind, words=words)
            if table.row_count:
                console.print(table)
        for table in model.result_tables(metrics, phantom=phantom) if isinstance(model, ReportsResults) else ():
            console.print(table)
        console.print(describe_choice(metrics, chosen_by, model=model, words=words), style="dim", highlight=False)
    if explained:
        print_explanations(explained, console)
    names = (
        "report.html",
        "explanations/report.html",
        "results.json",
        "patients.csv",
        "doubts.csv",
        "attention_maps",
        "cam_npy",
        "evaluation/samples.parquet",
        "segmentations",
        "checkpoints/best.ckpt",
        "checkpoints/model_card.md",
    )
    console.print(f"[bold]{folder.path}[/]", soft_wrap=True)
    for name in names:
        if (folder.path / name).exists():
            console.print(f"  {name}", highlight=False)
