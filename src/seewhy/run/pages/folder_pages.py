"""Pages of folders, made from their files alone: of a prediction, of an evaluation, and all of a run again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.figures.labels import NONE, parse_number
from seewhy.figures.report.blocks import Block, ReportTable, ScoreCards, Section, Text
from seewhy.figures.report.page import PHANTOM, write_report
from seewhy.figures.results import explain_measures, results_blocks
from seewhy.io.atomic import file_sha256, write_csv, write_json
from seewhy.io.documents import read_csv, read_json
from seewhy.reporting.page import write_explanation_page
from seewhy.run.loaded.saved_run import SavedRun
from seewhy.run.pages.cases import collect_cases, make_browser_section
from seewhy.run.pages.facts import make_cards
from seewhy.run.pages.run_page import read_picture, write_run_page
from seewhy.run.records import find_words_of, read_results

__all__ = ["rebuild_pages", "write_evaluation_page", "write_prediction_page", "write_prediction_results"]

LOGGER = logging.getLogger(__name__)
PREFIX = "predict/"
"""Prefix of the scores of a prediction, which is not a test of the run."""
GROUPS: dict[str, dict[str, str]] = {
    "Means over patients against the same head on the other scanner; cycle: translated back, against the input; "
    "change: translated against the input, which does not measure quality.": {
        "ssim": "SSIM", "psnr": "PSNR dB", "mae": "mean error ↓", "cycle_ssim": "cycle SSIM",
        "change_ssim": "change SSIM",
    },
    "Distances to real scans of the target between equal numbers of patients, and balanced accuracy of site probes, "
    "which tell the scanners apart: 0.5 is chance, lower is better.": {
        "frechet_matched": "Fréchet ↓", "kid_matched": "KID ↓", "mmd_matched": "MMD ↓",
        "network_frozen": "network probe, frozen", "network_retrained": "network probe, retrained",
        "logistic_frozen": "logistic probe, frozen", "logistic_retrained": "logistic probe, retrained",
    },
    "Lesions: contrast to their surroundings before, after, and in the truth; relative change; Dice and volume of "
    "regions found by intensity.": {
        "lesion_patients": "patients", "lesion_contrast_source": "contrast before", "lesion_contrast": "after",
        "lesion_contrast_counterpart": "truth", "lesion_relative_change": "relative change", "lesion_dice": "Dice",
        "lesion_volume_ratio": "volume ratio", "lesion_volume_correlation": "volume correlation",
    },
}  # fmt: skip
"""Caption → column of `table.csv` → heading."""
TRUTH = "truth"
"""Status of the row of the same head on the other scanner."""


def rebuild_pages(folder: Path) -> list[Path]:
    """Write every page of a run folder, or of one of its folders, again.

    Args:
        folder: a run folder, or a folder of predictions, explanations or an evaluation.

    Returns:
        The pages.

    Raises:
        DataError: the folder is missing or has nothing to show, or a record is damaged.
        ConfigError: the configuration is not plain YAML.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected a run folder, e.g. lightning_logs/<experiment>/<date_time>"
        )
    pages: list[Path | None] = []
    if (folder / "results.json").is_file():
        is_run = "run" not in read_results(folder)
        if is_run:
            _check_checkpoint(folder)
        pages.append(write_run_page(folder) if is_run else write_prediction_page(folder))
    parts: list[tuple[Path, str, Callable[[Path], Path | None]]] = [
        (folder / "explanations", "explanations.json", write_explanation_page),
        (folder / "predictions", "results.json", write_prediction_page),
        *((path, "evaluation.json", write_evaluation_page) for path in sorted(folder.glob("evaluation*"))),
        (folder, "explanations.json", write_explanation_page),
        (folder, "evaluation.json", write_evaluation_page),
    ]
    pages += [write(path) for path, name, write in parts if (path / name).is_file()]
    written = [page for page in pages if page is not None]
    if not written:
        raise DataError(
            f"{folder} has no results.json, explanations.json or evaluation.json: its run has not been "
            "tested, explained or evaluated"
        )
    return written


def _check_checkpoint(folder: Path) -> None:
    """Warn if the checkpoint of a run is not the one that its scores are of."""
    expected, path = read_results(folder).get("checkpoint"), folder / "checkpoints" / "best.ckpt"
    if expected and path.is_file() and file_sha256(path) != expected:
        LOGGER.warning("%s is another checkpoint than the tested one (%s…)", path, expected[:16])


# -- predictions ----------------------------------------------------------------------------------------------


def write_prediction_results(
    folder: Path, run: SavedRun, scores: Mapping[str, float], rows: Sequence[Mapping[str, Any]], *, name: str
) -> Path:
    """Write `results.json`, `patients.csv` and the page of a prediction.

    Args:
        folder: of the predictions.
        run: that predicted.
        scores: of the cases with labels or masks; empty without any.
        rows: scores of each of them.
        name: of the experiment.
    """
    record = {
        "name": name,
        "run": str(run.folder.path),
        "phantom": run.datamodule.is_phantom,
        "words": asdict(run.datamodule.words),
        "checkpoint": file_sha256(run.checkpoint),
        "predicted": run.datamodule.predict_choice,
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "metrics": {f"{PREFIX}{key}": value for key, value in sorted(scores.items()) if math.isfinite(value)},
        "warnings": _find_warnings(run.folder.path, rows) if scores else [],
    }
    write_json(folder / "results.json", record)
    path = folder / "patients.csv"
    path.unlink(missing_ok=True)  # of an earlier prediction
    if scores and rows:
        write_csv(path, rows)
    return write_prediction_page(folder)


def _find_warnings(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warn of scores on patients that the model was trained or chosen on, by their names in the run's split."""
    path = folder / "split.json"
    split = read_json(path) if path.is_file() else {}
    patients = {str(row.get("patient")) for row in rows}
    warnings = []
    for part, use in (("train", "trained on"), ("val", "chosen and calibrated on")):
        known = patients & {str(name) for name in split.get(part) or ()}
        if known:
            warnings.append(
                f"{len(known)} of {len(patients)} patients have the name of a patient that the model was {use} "
                "(split.json of the run): unless they are others, their scores say little about new patients."
            )
    return warnings


def write_prediction_page(folder: Path) -> Path:
    """Write `<folder>/report.html` from the files of a prediction.

    Args:
        folder: with `results.json`; all other files are shown where they exist.

    Raises:
        DataError: `results.json` is missing or damaged.
    """
    results = read_results(folder)
    metrics, phantom = results["metrics"], bool(results.get("phantom", False))
    words = find_words_of(results)
    tables = results_blocks(metrics, prefix=PREFIX, phantom=phantom, words=words)
    blocks: list[Block] = [ScoreCards(cards)] if (cards := make_cards(metrics, prefix=PREFIX, words=words)) else []
    blocks += tables or [Text("The truth of these cases is not known, hence no scores.")]
    cases = collect_cases(folder, words=words)
    sections = [Section("Scores", blocks), *make_browser_section(cases)]
    sections += [
        Section("The measures of the tables", [block], menu="Measures") for block in explain_measures(tables, words)
    ]
    facts = {
        "run": str(results.get("run", "")), "checkpoint": str(results.get("checkpoint") or "")[:16],
        "predicted": str(results.get("predicted", "")), "written": str(results.get("written", "")),
        "cases": str(len(cases)) if cases else "",
    }  # fmt: skip
    return write_report(
        folder / "report.html",
        title=f"Predictions of {results.get('name') or folder.name}",
        lead="What the model predicts for every case, and how well where the truth is known.",
        sections=sections,
        facts={name: value for name, value in facts.items() if value},
        warnings=[PHANTOM] * phantom + list(results.get("warnings", [])),
    )


# -- evaluations ----------------------------------------------------------------------------------------------


class EvaluationRecord(TypedDict):
    """The entries of `evaluation.json` that the page shows."""

    name: str
    phantom: bool
    run: NotRequired[str]
    checkpoint: NotRequired[dict[str, Any]]
    predict_on: NotRequired[str]
    written: NotRequired[str]


def write_evaluation_page(folder: Path) -> Path:
    """Write `<folder>/report.html` from the files of an evaluation.

    Raises:
        DataError: `evaluation.json` or `table.csv` is missing or damaged.
    """
    record: dict[str, Any] = read_json(folder / "evaluation.json", EvaluationRecord)
    sections = [Section("Results", _make_tables(folder / "table.csv"))]
    alt = "Similarity, distance and site probes of every method with floors; the numbers are in the tables."
    path = folder / "evaluation.png"
    picture = read_picture(path, alt=alt) if path.is_file() else None
    sections += [Section("Methods side by side", [picture])] if picture is not None else []
    sections += make_browser_section(collect_cases(folder))
    checkpoint = str(record.get("checkpoint", {}).get("sha256", ""))
    facts = {
        "run": record.get("run", ""), "checkpoint": checkpoint[:16], "subjects of": record.get("predict_on", ""),
        "written": record.get("written", ""),
    }  # fmt: skip
    return write_report(
        folder / "report.html",
        title=f"Evaluation of {record['name']}",
        lead="A translation between scanners against raw scans, simple methods, and a floor of real scans.",
        sections=sections,
        facts={name: value for name, value in facts.items() if value},
        warnings=[PHANTOM] * record["phantom"],
    )


def _make_tables(path: Path) -> list[Block]:
    """The numbers of `table.csv` in a few tables, without empty columns and rows."""
    table = read_csv(path)
    blocks: list[Block] = []
    for caption, names in GROUPS.items():
        columns = [name for name in names if any(row.get(name) for row in table.rows)]
        rows = [row for row in table.rows if any(row.get(name) for name in columns)]
        if columns and rows:
            cells = [[_name_row(row), *(_format(name, row.get(name, "")) for name in columns)] for row in rows]
            quiet = [row.get("method") != "model" for row in rows]
            blocks.append(ReportTable(["", *(names[name] for name in columns)], cells, caption, quiet=quiet))
    missing = [
        f"{_name_method(row)}: {row['status']}" for row in table.rows if row.get("status", "").startswith("not ")
    ]
    if missing:
        blocks.append(Text(f"Not measured: {'; '.join(dict.fromkeys(missing))}."))
    return [*blocks, Text("table.csv has all numbers with their spread.")]


def _name_row(row: Mapping[str, str]) -> str:
    from seewhy.figures.translation.evaluation import DIRECTIONS  # predictions of other systems need none of it

    direction = row.get("direction", "")
    return f"{DIRECTIONS.get(direction, direction)}: {_name_method(row)}"


def _name_method(row: Mapping[str, str]) -> str:
    from seewhy.figures.translation.evaluation import METHODS

    method = row.get("method", "")
    return "truth: the other scanner" if row.get("status") == TRUTH else METHODS.get(method, method)


def _format(column: str, cell: str) -> str:
    value = parse_number(cell)
    if value is None:
        return cell or NONE
    return f"{value:.0f}" if column.endswith("patients") else f"{value:.3f}"
