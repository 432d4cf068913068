"""Page of a prediction, made from its folder alone: scores where the truth is known, and every case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from seewhy.figures.report.blocks import Block, ScoreCards, Section, Text
from seewhy.figures.report.page import write_report
from seewhy.figures.results import explain_measures, results_blocks
from seewhy.io.atomic import file_sha256, write_csv, write_json
from seewhy.io.documents import read_json
from seewhy.run.loaded.saved_run import SavedRun
from seewhy.run.pages.cases import collect_cases, make_browser_section
from seewhy.run.pages.headline import make_cards
from seewhy.run.pages.run_page import PHANTOM
from seewhy.run.records import find_words_of, read_results

__all__ = ["write_prediction_page", "write_prediction_results"]

PREFIX = "predict/"
"""Prefix of the scores of a prediction, which is not a test of the run."""


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
        columns = list(dict.fromkeys(key for row in rows for key in row))
        write_csv(path, rows, columns=columns)
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
