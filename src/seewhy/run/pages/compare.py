"""Compare runs on the patients that they share: paired differences with intervals by patient, read as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.figures.labels import MEASURES, is_floor, label_of, lower_is_better, parse_number
from seewhy.io.documents import CsvTable, read_csv
from seewhy.metrics.bootstrap import (
    Interval,
    bca_bounds,
    bootstrap_difference,
    resampled_weights,
)
from seewhy.metrics.classification.measures import case_measures
from seewhy.run.pages.facts import read_facts
from seewhy.run.records import find_words_of, read_results
from seewhy.wording import TargetWords

__all__ = ["CaseChange", "Comparison", "PairedScore", "RunScores", "compare_runs"]

RESAMPLES = 2000
PROBABILITY = "probability_"
"""Prefix of the columns of `patients.csv` that hold the probabilities of classes."""
WHOLE = ("auroc", "balanced_accuracy", "f1", "average_precision", "kappa", "mae", "ece")
"""Scores that are not means over cases; their differences are resampled as wholes."""
RANGES = {"hd95": math.inf, "fp_area": math.inf, "fp_volume": math.inf}
ROUNDING = 1e-3
"""Most that the probabilities of a case may differ from 1 in sum."""
CHANGES = 20
"""Cases that changed most."""


@dataclass(frozen=True)
class RunScores:
    """A run with its table of patients.

    Attributes:
        name: short name that is unique among the compared runs.
        folder: run folder, or folder of a prediction.
        table: `patients.csv`.
        phantom: whether the data are synthetic.
        words: of the data set.
        data: hash of the data set; None if it was not recorded.
    """

    name: str
    folder: Path
    table: CsvTable
    phantom: bool
    words: TargetWords
    data: str | None = None


@dataclass(frozen=True)
class PairedScore:
    """A score of two runs on the same patients.

    Attributes:
        name: e.g. `Dice, refined`.
        first: mean of the reference, with its interval.
        second: mean of the other run.
        difference: second - first with the interval of the paired difference; None with fewer than three patients.
        patients: with this score in both runs.
        lower: whether lower is better.
    """

    name: str
    first: float
    second: float
    difference: Interval | None
    patients: int
    lower: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no clear difference` of the second run; `too few patients` without an interval."""
        if self.difference is None:
            return "too few patients"
        if self.difference.low <= 0 <= self.difference.high:
            return "no clear difference"
        return "better" if (self.difference.mean > 0) != self.lower else "worse"


@dataclass(frozen=True)
class CaseChange:
    """A case whose score differs between two runs.

    Attributes:
        id: case or patient.
        patient: patient of the case.
        score: name of the score.
        first: value of the reference.
        second: value of the other run.
        note: e.g. the classes that both predict.
    """

    id: str
    patient: str
    score: str
    first: float
    second: float
    note: str = ""

    @property
    def change(self) -> float:
        """Second minus first."""
        return self.second - self.first


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run compared with the reference.

    Attributes:
        reference: name of the first run.
        run: name of the other.
        shared: patients in both.
        only_first: patients that only the reference has.
        only_second: patients that only the other has.
        scores: paired scores.
        changes: cases that changed most, the largest change first.
        notes: what limits the comparison, e.g. cases whose label differs.
    """

    reference: str
    run: str
    shared: Sequence[str]
    only_first: Sequence[str]
    only_second: Sequence[str]
    scores: Sequence[PairedScore]
    changes: Sequence[CaseChange]
    notes: Sequence[str] = field(default_factory=list)


def compare_runs(folders: Sequence[Path]) -> tuple[list[RunScores], list[Comparison]]:
    """Compare each run with the first one, on the patients that both have.

    Means over patients have the interval of `bootstrap_difference`; scores that are no means (AUROC, kappa, …) are
    computed for both runs on the same resampled patients, with BCa bounds of their difference (Efron 1987). Files
    of the runs are read as data.

    Args:
        folders: of at least two runs, each with `patients.csv`.

    Raises:
        DataError: fewer than two runs, a run without `patients.csv`, damaged files, or no patient in common.
    """
    if len(folders) < 2:
        raise DataError(f"compare takes two or more run folders, got {len(folders)}: seewhy compare RUN RUN")
    runs = _read_runs(folders)
    return runs, [_compare(runs[0], other) for other in runs[1:]]


def _read_runs(folders: Sequence[Path]) -> list[RunScores]:
    names = _name_runs(folders)
    runs = []
    for name, folder in zip(names, folders, strict=True):
        path = folder / "patients.csv"
        if not path.is_file():
            raise DataError(
                f"{folder} has no patients.csv; expected the folder of a finished run that was tested, or the folder "
                "`predictions` of cases whose truth is known"
            )
        table = read_csv(path)
        if "patient" not in table.columns or not table.rows:
            raise DataError(f"{path} has no column `patient`, or no rows")
        results = read_results(folder) if (folder / "results.json").is_file() else {}
        phantom, data = bool(results.get("phantom", False)), read_facts(folder).code.get("data")
        words = find_words_of(results)
        runs.append(RunScores(name, folder, table, phantom, words, None if data is None else str(data)))
    return runs


def _name_runs(folders: Sequence[Path]) -> list[str]:
    """The last parts of the folders, as few as tell them apart.

    Example:
        >>> _name_runs([Path("logs/a/2026"), Path("logs/b/2026")])
        ['a/2026', 'b/2026']
    """
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"the same run folder is given twice: {', '.join(map(str, folders))}")


def _compare(first: RunScores, second: RunScores) -> Comparison:
    patients = [dict.fromkeys(row["patient"] for row in run.table.rows) for run in (first, second)]
    shared = [name for name in patients[0] if name in patients[1]]
    if not shared:
        raise DataError(
            f"{first.folder} and {second.folder} have no patient in common, so that nothing can be compared in pairs"
        )
    classifies = [any(name.startswith(PROBABILITY) for name in run.table.columns) for run in (first, second)]
    if classifies[0] != classifies[1]:
        raise DataError(f"{first.folder} and {second.folder} are of different tasks: only one of them has class scores")
    compare = _compare_cases if classifies[0] else partial(_compare_maps, words=first.words)
    scores, changes, notes = compare(first.table, second.table, set(shared))
    if not scores:
        raise DataError(f"{first.folder} and {second.folder} have no score in common")
    if first.data is not None and second.data is not None and first.data != second.data:
        notes = [f"its data set is not that of {first.name}, so patients of one name may be different people", *notes]
    changes = sorted(changes, key=lambda change: -abs(change.change))[:CHANGES]
    return Comparison(
        reference=first.name, run=second.name, shared=shared,
        only_first=[name for name in patients[0] if name not in patients[1]],
        only_second=[name for name in patients[1] if name not in patients[0]],
        scores=scores, changes=[change for change in changes if change.change], notes=notes,
    )  # fmt: skip


Compared = tuple[list[PairedScore], list[CaseChange], list[str]]

# -- scores of patients, e.g. of maps -------------------------------------------------------------------------


def _compare_maps(first: CsvTable, second: CsvTable, shared: set[str], *, words: TargetWords) -> Compared:
    """Compare the scores of each map, and those of a translation in each direction, patient by patient."""
    tables = [_average_patients(table, shared) for table in (first, second)]
    scores, changes = [], []
    for key in [key for key in tables[0] if key in tables[1]]:
        values = [table[key] for table in tables]
        common = [patient for patient in values[0] if patient in values[1]]
        pair = [[own[patient] for patient in common] for own in values]
        name, limits = _describe_score(*key, words)
        scores.append(_pair_means(name, pair[0], pair[1], lower=lower_is_better(key[1]), limits=limits))
        changes += [
            CaseChange(patient, patient, name, *both) for patient, *both in zip(common, *pair, strict=True)
            if key == _main_key(tables)
        ]  # fmt: skip
    return scores, changes, []


def _describe_score(method: str, measure: str, words: TargetWords) -> tuple[str, tuple[float, float]]:
    """Name of a score, and its lowest and highest value."""
    if "/" in method:  # direction and comparison of a translation
        direction, _, comparison = method.partition("/")
        return f"{TRANSLATION[measure][0]}, {direction}, {comparison}", TRANSLATION[measure][1]
    top = next((high for start, high in RANGES.items() if measure.startswith(start)), 1.0)
    return f"{label_of(measure, words)}, {label_of(method)}", (0.0, top)


def _main_key(tables: Sequence[Mapping[tuple[str, str], object]]) -> tuple[str, str] | None:
    """Method and measure that rank the cases: the first measure of the model's final answer."""
    common = [key for key in tables[0] if key in tables[1]]
    for measure in ("dice", "ssim", "auprc", "lesion_dice"):
        found = [method for method, own in common if own == measure]
        if found:
            return next((name for name in ("prediction", "refined") if name in found), found[-1]), measure
    return common[0] if common else None


TRANSLATION = {"ssim": ("SSIM", (-1.0, 1.0)), "psnr": ("PSNR dB", (-math.inf, math.inf)),
               "mae": ("mean error", (0.0, math.inf))}  # fmt: skip
"""Score of a translation → name, lowest and highest value."""


def _average_patients(table: CsvTable, shared: set[str]) -> dict[tuple[str, str], dict[str, float]]:
    """(method, measure) → patient → mean over the patient's rows, e.g. over several volumes."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in table.rows:
        method = row.get("map") or (f"{row['direction']}/{row['comparison']}" if row.get("comparison") else "")
        if row["patient"] not in shared or not method or is_floor(method):
            continue
        for measure in TRANSLATION if row.get("comparison") else [name for name in MEASURES if name in row]:
            value = parse_number(row.get(measure))
            if value is not None:
                values.setdefault((method, measure), {}).setdefault(row["patient"], []).append(value)
    return {key: {name: float(np.mean(own)) for name, own in patients.items()} for key, patients in values.items()}


def _pair_means(
    name: str, first: Sequence[float], second: Sequence[float], *, lower: bool, limits: tuple[float, float]
) -> PairedScore:
    difference = bootstrap_difference(second, first, resamples=RESAMPLES, limits=limits)
    return PairedScore(name, float(np.mean(first)), float(np.mean(second)), difference, len(first), lower)


# -- classified cases -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cases:
    """Classified cases that both runs have, in one order."""

    ids: Sequence[str]
    patients: Sequence[str]
    label: NDArray[np.int64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    classes: Sequence[str]
    ordinal: bool


def _compare_cases(first: CsvTable, second: CsvTable, shared: set[str]) -> Compared:
    """Compare predicted classes and probabilities, case by case."""
    cases, notes = _match_cases(first, second, shared)
    changes = []
    rows = np.arange(len(cases.ids))
    true = [shares[rows, cases.label] for shares in (cases.first, cases.second)]
    for i, (name, patient) in enumerate(zip(cases.ids, cases.patients, strict=True)):
        answers = [cases.classes[int(shares[i].argmax())] for shares in (cases.first, cases.second)]
        changed = f"{answers[0]} → {answers[1]}" if answers[0] != answers[1] else f"both {answers[0]}"
        note = f"truth {cases.classes[cases.label[i]]}; {changed}"
        score = "probability of the true class"
        changes.append(CaseChange(name, patient, score, float(true[0][i]), float(true[1][i]), note))
    scores = [
        _pair_patients("accuracy", cases, lambda p: (p.argmax(axis=1) == cases.label).astype(np.float64), 1.0),
        _pair_patients("brier", cases, lambda p: np.square(p - np.eye(p.shape[1])[cases.label]).sum(axis=1), 2.0),
    ]
    return [*_pair_whole(cases), *scores], changes, notes


def _match_cases(first: CsvTable, second: CsvTable, shared: set[str]) -> tuple[_Cases, list[str]]:
    classes = [[name for name in table.columns if name.startswith(PROBABILITY)] for table in (first, second)]
    if classes[0] != classes[1]:
        names = ["; ".join(name.removeprefix(PROBABILITY) for name in own) for own in classes]
        raise DataError(f"the runs have different classes: {names[0]} and {names[1]}")
    tables = [
        {row.get("id") or row["patient"]: row for row in t.rows if row["patient"] in shared} for t in (first, second)
    ]
    notes, ids = [], []
    for name in [name for name in tables[0] if name in tables[1]]:
        labels = [table[name].get("label", "") for table in tables]
        if labels[0] != labels[1] or not labels[0].isdecimal() or int(labels[0]) >= len(classes[0]):
            notes.append(f"case {name} is left out: its label is {labels[0] or 'unknown'} and {labels[1] or 'unknown'}")
        else:
            ids.append(name)
    single = [sum(name not in other for name in own) for own, other in (tables, tables[::-1])]
    if any(single):
        notes.append(f"{single[0]} and {single[1]} cases of shared patients are in one of the runs only")
    if not ids:
        raise DataError("the runs have no case in common whose label is known")
    shares = [np.array([[parse_number(table[name][c]) or 0.0 for c in classes[0]] for name in ids]) for table in tables]
    for own, table in zip(shares, ("first", "second"), strict=True):
        wrong = [name for name, row in zip(ids, own, strict=True) if abs(row.sum() - 1) > ROUNDING or (row < 0).any()]
        if wrong:
            raise DataError(f"{table} run, case {wrong[0]}: its probabilities do not sum to 1")
    label = np.array([int(tables[0][name]["label"]) for name in ids], np.int64)
    patients = [tables[0][name]["patient"] for name in ids]
    names = [name.removeprefix(PROBABILITY) for name in classes[0]]
    return _Cases(ids, patients, label, shares[0], shares[1], names, "error" in first.columns), notes


def _pair_patients(
    measure: str, cases: _Cases, score: Callable[[NDArray[np.float64]], NDArray[np.float64]], top: float
) -> PairedScore:
    """A score of each case: mean over all cases, and the paired difference of the means of each patient."""
    values = [score(cases.first), score(cases.second)]
    index = np.asarray(cases.patients)
    means = [[float(own[index == patient].mean()) for patient in dict.fromkeys(cases.patients)] for own in values]
    name = f"{label_of(measure)}, mean over patients"
    return _pair_means(name, means[0], means[1], lower=lower_is_better(measure), limits=(0.0, top))


def _pair_whole(cases: _Cases) -> list[PairedScore]:
    """Scores that need all cases at once, for both runs on the same resampled patients."""
    names, index = np.unique(np.asarray(cases.patients), return_inverse=True)
    one, weights = np.ones((1, len(index))), resampled_weights(cases.patients, resamples=RESAMPLES)
    without = (index[None, :] != np.arange(len(names))[:, None]).astype(np.float64)

    def measure(weight: NDArray[np.float64]) -> list[dict[str, NDArray[np.float64]]]:
        tables = (cases.first, cases.second)
        return [case_measures(shares, cases.label, weight, ordinal=cases.ordinal) for shares in tables]

    plain = measure(one)
    resampled, left_out = (None, None) if weights is None else (measure(weights), measure(without))
    scores = []
    for name in [name for name in WHOLE if name in plain[0]]:
        values = [float(own[name][0]) for own in plain]
        if any(math.isnan(value) for value in values):
            continue
        difference = None
        if resampled is not None and left_out is not None:
            gaps = [own[1][name] - own[0][name] for own in (resampled, left_out)]
            bounds = bca_bounds(gaps[0], values[1] - values[0], gaps[1])
            difference = None if bounds is None else Interval(values[1] - values[0], *bounds)
        scores.append(PairedScore(label_of(name), values[0], values[1], difference, len(names), lower_is_better(name)))
    return scores
