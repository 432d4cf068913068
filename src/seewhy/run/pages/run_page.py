"""Page of a trained run, made from its folder alone: at the end of a training, and again by `seewhy report`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from seewhy.errors import DataError
from seewhy.figures.report.blocks import Block, Picture, ReportTable, ScoreCards, Section, Text
from seewhy.figures.report.page import PHANTOM, write_report
from seewhy.figures.results import explain_measures, results_blocks
from seewhy.io.atomic import list_files
from seewhy.reporting.page import read_explanations, report_section
from seewhy.run.pages.cases import collect_cases, make_browser_section
from seewhy.run.pages.facts import describe_run, make_cards, read_facts
from seewhy.run.records import find_words_of, read_results
from seewhy.wording import TargetWords

__all__ = ["find_page", "read_picture", "write_run_page"]

LOGGER = logging.getLogger(__name__)

FEW = 10
"""With fewer test patients than this, a warning calls intervals rough."""
MOST_DOUBTS = 3
"""More warnings about single patients are counted; the case browser has their reasons."""
FIGURES = {
    "scores.png": ("Against floors that know nothing", "Every patient's score of each map, with means, intervals and "
                   "the best floor."),
    "grading.png": ("Class by class, and how sure it is", "Confusion matrix, recall of each class, and calibration."),
    "curves.png": ("At every threshold", "ROC and precision-recall curve of each class."),
    "cases.png": ("Patients from best to worst, and {absent} ones", "Image, truth and maps of some test patients."),
}  # fmt: skip
"""Figure → heading, with places for the words of a data set, and description."""
MAPS = 8
"""Pictures of single slices, where a run has no case browser."""


def write_run_page(folder: Path, *, explanations: Path | None = None) -> Path:
    """Write `<folder>/report.html` from the files of a run folder; nothing is trained, built or unpickled.

    Args:
        folder: with `results.json`; all other files are shown where they exist.
        explanations: folder of explanations; None is that in the run folder.

    Raises:
        DataError: `results.json` is missing or damaged.
        ConfigError: `config.yaml` cannot be read as plain YAML.
    """
    results, facts = read_results(folder), read_facts(folder)
    metrics, phantom = results["metrics"], bool(results.get("phantom", False))
    words = find_words_of(results)
    tables: list[Block] = [*results_blocks(metrics, phantom=phantom, words=words)]
    tables += [ReportTable(**table) for table in results.get("tables", [])]
    choice = results.get("choice", "")
    headline: list[Block] = [ScoreCards(cards)] if (cards := make_cards(metrics, words=words)) else []
    headline += tables
    headline += [Text(f"{choice[0].upper()}{choice[1:]}.")] if choice else []
    explanations = explanations or folder / "explanations"
    cases = collect_cases(folder, explanations=explanations, words=words)
    sections = [Section("Results", headline)] if headline else []
    sections += make_browser_section(cases)
    sections += _figure_sections(folder, results.get("pictures", {}), words)
    if not cases:
        sections += _map_section(folder)
    sections += _explanation_section(explanations)
    sections += _named_figure(folder, "training.png", "Training", "Losses and scores of training and validation.")
    sections.append(describe_run(facts, results))
    sections += [
        Section("The measures of the tables", [block], menu="Measures") for block in explain_measures(tables, words)
    ]
    shown = {
        "tested": results.get("written", ""), "seed": str(results.get("seed", "")), **_describe_data(metrics, words),
        "code": str(facts.code.get("commit") or facts.code.get("version") or ""),
    }  # fmt: skip
    return write_report(
        folder / "report.html",
        title=str(results.get("name") or facts.config.get("name") or folder.name),
        lead="Report of a training run: results with floors and intervals, every test case, and what was run.",
        sections=sections,
        facts={name: value for name, value in shown.items() if value},
        warnings=_order_warnings(results, metrics, phantom=phantom, browsable=bool(cases)),
    )


def find_page(folder: Path, member: str) -> str | None:
    """Path of the report of a run below `folder`, or None if it has none.

    Args:
        folder: e.g. of a sweep.
        member: folder of the run in it.
    """
    return f"{member}/report.html" if (folder / member / "report.html").is_file() else None


def _describe_data(metrics: Mapping[str, float], words: TargetWords) -> dict[str, str]:
    counts = {
        "test patients": "test/patients",
        f"with {words.target}": "test/patients_with_lesion",
        "test cases": "test/cases",
    }
    return {name: f"{metrics[key]:.0f}" for name, key in counts.items() if key in metrics}


def _order_warnings(
    results: Mapping[str, Any], metrics: Mapping[str, float], *, phantom: bool, browsable: bool
) -> list[str]:
    """What matters for every number first, then what concerns single patients, of which many are counted."""
    saved: Sequence[str] = results.get("warnings", [])
    single = [line for line in saved if line.startswith("Patient ")]
    lines = [PHANTOM] * phantom + [line for line in saved if line not in single]
    patients = metrics.get("test/patients")
    if patients is not None and patients < FEW:
        lines.append(f"Only {patients:.0f} test patients: all scores and intervals are rough.")
    if browsable and len(single) > MOST_DOUBTS:
        names = {line.split(":")[0].split(",")[0] for line in single}
        lines.append(
            f"{len(names)} patients have doubtful results: choose the outcome “with doubts” in the case browser."
        )
        return lines
    return lines + single


# -- figures --------------------------------------------------------------------------------------------------


def read_picture(path: Path, caption: str = "", alt: str = "") -> Picture | None:
    """A picture of a run folder; None, with a warning, if the file is not a readable PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        LOGGER.warning("%s is left out of the page: it is not a readable PNG file (%s)", path, error)
        return None
    return Picture(path, caption, alt)


def _named_figure(folder: Path, name: str, heading: str, alt: str) -> list[Section]:
    path = folder / "figures" / name
    if Path(name).name != name or not path.is_file():
        return []
    picture = read_picture(path, alt=alt or heading)
    return [] if picture is None else [Section(heading, [picture], menu=MENU.get(name, ""))]


MENU = {"scores.png": "Floors", "grading.png": "Classes", "curves.png": "Thresholds", "cases.png": "Examples"}


def _figure_sections(folder: Path, added: Mapping[str, str], words: TargetWords) -> list[Section]:
    """Figures of results, those that a model adds before the examples."""
    figures = {**{name: FIGURES[name] for name in list(FIGURES)[:-1]}, **{name: (h, "") for name, h in added.items()}}
    heading, alt = FIGURES["cases.png"]
    figures["cases.png"] = (words.fill(heading), alt)
    return [part for name, (heading, alt) in figures.items() for part in _named_figure(folder, name, heading, alt)]


def _map_section(folder: Path) -> list[Section]:
    """Some maps of slices, from the most to the least confident, for runs without a case browser."""
    paths = sorted(list_files(folder / "attention_maps", "*.png"), key=_read_probability, reverse=True)
    chosen = paths[:: max(1, len(paths) // MAPS)][:MAPS]
    pictures = [picture for path in chosen if (picture := read_picture(path, path.stem)) is not None]
    text = Text("Samples from the most to the least confident; every map on one scale from 0 to 1.")
    return [Section("Maps", [text, *pictures])] if pictures else []


def _read_probability(path: Path) -> float:
    """The score at the end of a map's file name; 0 for other names."""
    try:
        return float(path.stem.rpartition("_")[2])
    except ValueError:
        return 0.0


def _explanation_section(folder: Path) -> list[Section]:
    try:
        explained = read_explanations(folder)
    except DataError as error:
        LOGGER.warning("explanations are left out of the page: %s", error)
        return []
    return [report_section(explained)] if explained.get("records") else []
