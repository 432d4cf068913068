"""Pool the folds of a cross-validation: every case is scored once, by the model that was not trained on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import write_csv, write_json
from seewhy.io.documents import CsvTable, read_csv
from seewhy.metrics.classification.cases import CaseScores
from seewhy.run.records import read_overrides, read_results
from seewhy.run.saved_config import load_plain_yaml

__all__ = ["FOLD", "Member", "find_problems", "pool_folds", "print_pooled", "read_members"]

FOLD = "data.fold"
"""The override by which the members of one cross-validation differ."""
PROBABILITY = "probability_"
"""Prefix of the columns of `patients.csv` that hold the classes' probabilities."""
SPREAD = ("accuracy", "balanced_accuracy", "auroc", "average_precision", "f1", "kappa", "mae", "ece", "brier")
"""Measures whose values per fold are kept with the pooled value."""


MOST_FOLDS = 10_000
ROUNDING = 1e-3
"""Most that probabilities of a case may differ from 1 in sum."""


@dataclass(frozen=True)
class Member:
    """A finished run of a sweep.

    Attributes:
        name: of the run's folder.
        fold: number of the test fold.
        num_folds: number of folds; None if the table of cases defines the folds.
        choices: other overrides, sorted.
        ordinal: whether the classes are ordered.
        metrics: of `results.json`.
        rows: of `patients.csv`.
        phantom: whether the data are synthetic.
    """

    name: str
    fold: int
    num_folds: int | None
    choices: tuple[tuple[str, str], ...]
    ordinal: bool
    metrics: dict[str, float]
    rows: list[dict[str, str]]
    phantom: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(name.removeprefix(PROBABILITY) for name in self.rows[0] if name.startswith(PROBABILITY))


def read_members(folder: str | Path) -> list[Member]:
    """Read the finished classification runs below `folder` that have a test fold, in order of choice and fold.

    Raises:
        DataError: files of runs that are damaged, and rows with impossible probabilities or labels; all of them.
    """
    members, problems = [], []
    for results in sorted(Path(folder).glob("*/results.json")):
        run = results.parent
        if not (run / "patients.csv").exists() or not (run / "config.yaml").exists():
            continue
        try:
            member = _read_member(run)
        except (DataError, ConfigError) as error:
            problems += error.problems if isinstance(error, DataError) else [str(error)]
            continue
        members += [] if member is None else [member]
    if problems:
        raise DataError(problems, where=str(folder))
    return sorted(members, key=lambda member: (member.choices, member.fold))


def _read_member(run: Path) -> Member | None:
    """Read one run; None if it has no test fold or does not classify."""
    settings: Any = load_plain_yaml(run / "config.yaml")
    config = settings.get("config") if isinstance(settings, dict) else None
    data, model = (config.get(name) if isinstance(config, dict) else None for name in ("data", "model"))
    if not isinstance(data, dict) or not isinstance(model, dict):
        raise DataError(f"{run / 'config.yaml'} is not the record of a run; delete the folder, or run it again")
    table = read_csv(run / "patients.csv")
    if data.get("fold") is None or not table.rows or not any(name.startswith(PROBABILITY) for name in table.columns):
        return None
    problems = [
        f"{run / 'config.yaml'}: data.{name}={value!r} must be a whole number"
        for name, value in (("fold", data["fold"]), ("num_folds", data.get("num_folds")))
        if not (value is None or (isinstance(value, int) and 0 <= value <= MOST_FOLDS)) or isinstance(value, bool)
    ]
    problems += _find_impossible_rows(run / "patients.csv", table)
    if problems:
        raise DataError(problems)
    record = read_results(run)
    return Member(
        name=run.name,
        fold=data["fold"],
        num_folds=data.get("num_folds"),
        choices=tuple(sorted((key, value) for key, value in read_overrides(run).items() if key != FOLD)),
        ordinal=bool(model.get("ordinal", False)),
        metrics=record["metrics"],
        rows=table.rows,
        phantom=bool(record.get("phantom", False)),
    )


def _find_impossible_rows(path: Path, table: CsvTable) -> list[str]:
    """List rows whose probabilities are not a distribution or whose label is not a class, and missing names."""
    missing = [name for name in ("id", "patient", "label") if name not in table.columns]
    if missing:
        return [f"{path} has no column {', '.join(missing)}"]
    classes = [name for name in table.columns if name.startswith(PROBABILITY)]
    first: dict[str, int] = {}
    problems = []
    for number, row in zip(table.numbers, table.rows, strict=True):
        where = f"{path}, row {number} ({row['id'] or 'no id'})"
        shares = [_parse_number(row[name]) for name in classes]
        if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > ROUNDING:
            listed = ", ".join(row[name] or "nothing" for name in classes)
            problems.append(f"{where}: probabilities {listed}; expected numbers from 0 to 1 that sum to 1")
        if not row["label"].isdecimal() or int(row["label"]) >= len(classes):
            problems.append(f"{where}: label {row['label']!r}; expected 0 to {len(classes) - 1}")
        if not row["id"] or not row["patient"]:
            problems.append(f"{where}: the id or the patient is empty")
        elif first.setdefault(row["id"], number) != number:
            problems.append(f"{where}: also in row {first[row['id']]}")
    return problems


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def pool_folds(folder: str | Path, *, resamples: int = 2000) -> list[dict[str, Any]]:
    """Score all out-of-fold predictions of a multirun over `data.fold` together.

    Runs that differ only in the fold form a cross-validation. Scores of different models have different scales, so
    pooled ranks (AUROC) use the calibrated probabilities of `patients.csv`; `folds` has the values of each fold with
    their mean and standard deviation.

    Args:
        folder: of the sweep, with one folder per member; gets `pooled.json` and `pooled.csv` (every case with its
            `member` and `fold`).
        resamples: of the bootstrap over patients.

    Returns:
        Contents of `pooled.json`: one record per cross-validation.

    Raises:
        DataError: no such runs, or runs that do not form a cross-validation: a case or fold tested twice, a patient in
            two folds, different classes.
    """
    folder = Path(folder)
    members = read_members(folder)
    if not members:
        raise DataError(
            f"{folder} holds no finished classification runs with a test fold; expected the folder of "
            f"`train.py -m experiment=… data.num_folds=5 {FOLD}=0,1,2,3,4`"
        )
    groups: dict[tuple[tuple[str, str], ...], list[Member]] = {}
    for member in members:
        groups.setdefault(member.choices, []).append(member)
    problems = [problem for group in groups.values() for problem in find_problems(group)]
    if problems:
        raise DataError(problems, where=str(folder))
    records = [_pool_members(group, resamples) for group in groups.values()]
    write_json(folder / "pooled.json", records)
    rows = [
        {"member": member.name, "fold": member.fold, **row}
        for group in groups.values() for member in group for row in member.rows
    ]  # fmt: skip
    write_csv(folder / "pooled.csv", rows)
    return records


def print_pooled(records: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Print the pooled scores with their intervals and the spread of the folds."""
    alike = set.intersection(*(set(record["choices"].items()) for record in records))
    for record in records:
        chosen = " ".join(f"{key}={value}" for key, value in record["choices"].items() if (key, value) not in alike)
        metrics = record["metrics"]
        counts = f"{metrics['cases']:.0f} cases, {metrics['patients']:.0f} patients"
        title = f"{'phantom, ' if record['phantom'] else ''}{len(record['members'])} folds, {counts}"
        table = Table(title=f"{title}\n{chosen}" if chosen else title, caption=str(folder / "pooled.json"))
        for heading in ("measure", "pooled", "95 % by patient", "chance", "mean of folds", "deviation"):
            table.add_column(heading)
        for name in SPREAD:
            if name in metrics:
                table.add_row(name, *_format_cells(name, metrics, record["folds"].get(name, {})))
        console = Console()
        console.print(table)
        if record["missing_folds"]:
            missing = ", ".join(str(fold) for fold in record["missing_folds"])
            console.print(f"incomplete cross-validation: fold {missing} did not finish or was not started")


def _format_cells(name: str, metrics: Mapping[str, float], folds: Mapping[str, Any]) -> list[str]:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    chance = metrics.get(f"floor_permuted/{name}", metrics.get(f"floor_prior/{name}"))
    numbers = [metrics[name], chance, folds.get("mean"), folds.get("std")]
    cells = ["" if number is None else f"{number:.3f}" for number in numbers]
    cells.insert(1, "" if low is None or high is None else f"{low:.3f} … {high:.3f}")
    return cells


def find_problems(group: Sequence[Member]) -> list[str]:
    """List the reasons why runs do not form a cross-validation.

    Example:
        >>> from seewhy.run.sweeps.pooling import Member, find_problems
        >>> row = {"id": "scan1", "patient": "p1", "probability_HC": "0.7", "probability_TLE": "0.3"}
        >>> options = {"ordinal": False, "metrics": {}, "rows": [row], "phantom": True}
        >>> members = [Member(str(fold), fold, None, (), **options) for fold in (0, 1)]
        >>> find_problems(members[:1]), find_problems(members)
        ([], ['case scan1 was tested in 0 and in 1'])
    """
    problems, first = [], group[0]
    cases: dict[str, Member] = {}
    patients: dict[str, Member] = {}
    folds: dict[int, Member] = {}
    for member in group:
        if member.classes != first.classes:
            problems.append(f"{member.name} has classes {member.classes}, {first.name} has {first.classes}")
        if member.fold in folds:
            problems.append(f"{member.name} and {folds[member.fold].name} were both tested on fold {member.fold}")
            continue
        folds[member.fold] = member
        twice = [row["id"] for row in member.rows if row["id"] in cases]
        problems += [f"case {name} was tested in {cases[name].name} and in {member.name}" for name in twice]
        shared = {row["patient"] for row in member.rows if row["patient"] in patients}
        if not twice:
            problems += [
                f"patient {name} was tested in {patients[name].name} and in {member.name}" for name in sorted(shared)
            ]
        cases |= {row["id"]: member for row in member.rows}
        patients |= {row["patient"]: member for row in member.rows}
    return problems


def _pool_members(group: Sequence[Member], resamples: int) -> dict[str, Any]:
    """Score the members of one cross-validation together."""
    first = group[0]
    scores = CaseScores(classes=first.classes, ordinal=first.ordinal, resamples=resamples)
    for member in group:
        probabilities = torch.tensor(
            [[float(row[PROBABILITY + name]) for name in member.classes] for row in member.rows]
        )
        batch: Any = {
            "id": [row["id"] for row in member.rows],
            "patient": [row["patient"] for row in member.rows],
            "label": torch.tensor([int(row["label"]) for row in member.rows]),
        }
        # Their softmax gives the probabilities.
        logits = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
        prediction: Any = {"logits": logits}
        scores.update(prediction, batch)
    metrics = {name: value for name, value in sorted(scores.compute().items()) if math.isfinite(value)}
    tested = {member.fold for member in group}
    missing = sorted(set(range(first.num_folds)) - tested) if first.num_folds is not None else []
    return {
        "choices": dict(first.choices),
        "members": [member.name for member in group],
        "tested_folds": sorted(tested),
        "missing_folds": missing,
        "phantom": any(member.phantom for member in group),
        "metrics": metrics,
        "folds": _summarize_folds([member.metrics for member in group]),
    }


def _summarize_folds(results: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return measure → values of the folds, their mean and sample standard deviation."""
    summary = {}
    for name in SPREAD:
        values = [result[f"test/{name}"] for result in results if f"test/{name}" in result]
        if not values:
            continue
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1) if len(values) > 1 else math.nan
        std = None if math.isnan(variance) else math.sqrt(variance)
        summary[name] = {"values": values, "mean": mean, "std": std}
    return summary
