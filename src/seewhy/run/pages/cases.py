"""Collect the cases of a page: pictures of a test or prediction, with scores, doubts and explanations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from seewhy.figures.labels import is_floor, label_of, parse_number
from seewhy.figures.report.blocks import Section, Text
from seewhy.figures.report.cases import BrowserCase, read_cases
from seewhy.figures.report.page import CaseBrowser
from seewhy.io.documents import read_csv
from seewhy.reporting.cases.explained import add_explanations, read_explained_cases
from seewhy.wording import LESION, TargetWords

__all__ = ["collect_cases", "make_browser_section"]

SHOWN = ("dice", "lesion_dice", "cldice", "auprc", "fp_volume_ml", "fp_area", "fp_slices", "hd95_mm", "hd95_slices_mm")
"""Scores of a patient in the browser, in order."""
SIMILARITY = {"ssim": "SSIM", "psnr": "PSNR dB", "mae": "mean error"}
FINAL = ("prediction", "refined")
"""Methods whose scores come first."""


def collect_cases(folder: Path, *, explanations: Path | None = None, words: TargetWords = LESION) -> list[BrowserCase]:
    """Collect the cases of a test or a prediction.

    Args:
        folder: has `cases/`, and `patients.csv` and `doubts.csv` where there are any.
        explanations: folder of explanations, or None.
        words: of the data set.
    """
    cases = read_cases(folder / "cases")
    if explanations is not None:
        cases = add_explanations(cases, read_explained_cases(explanations))
    scores, doubts = _read_scores(folder / "patients.csv", words), _read_doubts(folder / "doubts.csv")
    return [
        replace(
            case,
            scores={**_find(scores, case), **case.scores},
            doubts=[*case.doubts, *(doubts.get(case.patient, []) if case.id == case.patient else [])],
        )
        for case in cases
    ]


def make_browser_section(cases: list[BrowserCase]) -> list[Section]:
    """The section of the case browser; none without cases."""
    if not cases:
        return []
    patients = all(case.id == case.patient for case in cases)
    maps = any(layer.kind == "map" for case in cases for layer in case.layers)
    parts = ["Every case of this page with its pictures. "]
    parts += ["Rows with ⚠ have signs, found without the truth, that the prediction is doubtful. "] * any(
        case.doubts for case in cases
    )
    unexplained = sum(not any(layer.kind == "map" for layer in case.layers) for case in cases)
    if maps and unexplained:
        parts += [f"{unexplained} cases have no map: explain.py run=… explain.samples=[<case>] makes one."]
    noun = "patients" if patients else "cases"
    text = Text("".join(parts).strip())
    return [Section("Case browser", [text, CaseBrowser(cases, noun=noun)], menu="Cases")]


def _find(scores: Mapping[str, Mapping[str, float]], case: BrowserCase) -> Mapping[str, float]:
    """Scores of a case, by its own name, or by its patient and domain where a patient has one case in each."""
    for key in (case.id, f"{case.patient} {case.label}"):
        if key in scores:
            return scores[key]
    return {}


def _read_scores(path: Path, words: TargetWords) -> dict[str, dict[str, float]]:
    """Case → score's name → number."""
    if not path.is_file():
        return {}
    rows = read_csv(path).rows
    scores: dict[str, dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: row.get("map") not in FINAL):
        if "comparison" in row:
            _add(scores, f"{row['patient']} scanner {row['domain']}", _read_similarity(row))
        elif row.get("map") and not is_floor(row["map"]):
            found = _read_numbers(row, SHOWN)
            key = row.get("id") or row.get("patient") or ""
            _add(scores, key, {f"{label_of(name, words)}, {label_of(row['map'])}": value for name, value in found})
    order = (*(label_of(name, words) for name in SHOWN), "")
    for own in scores.values():
        ordered = sorted(own, key=lambda name: next(i for i, m in enumerate(order) if name.startswith(m)))
        values = {name: own[name] for name in ordered}
        own.clear()
        own.update(values)
    return scores


def _read_similarity(row: Mapping[str, str]) -> dict[str, float]:
    kind = {"translation": "translated against the truth", "identity": "not translated"}.get(row["comparison"])
    found = _read_numbers(row, SIMILARITY) if kind else []
    return {f"{SIMILARITY[name]}, {kind}": value for name, value in found}


def _read_numbers(row: Mapping[str, str], names: Iterable[str]) -> list[tuple[str, float]]:
    found = ((name, parse_number(row.get(name))) for name in names)
    return [(name, value) for name, value in found if value is not None]


def _add(scores: dict[str, dict[str, float]], key: str, values: Mapping[str, float]) -> None:
    scores.setdefault(key, {}).update(values)


def _read_doubts(path: Path) -> dict[str, list[str]]:
    """Patient → what speaks against its map."""
    if not path.is_file():
        return {}
    doubts: dict[str, list[str]] = {}
    for row in read_csv(path).rows:
        if row.get("doubts") and row.get("patient"):
            doubts.setdefault(row["patient"], []).extend(row["doubts"].split("; "))
    return doubts
