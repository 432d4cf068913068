"""Cases of a table, one per row: their files, labels and patients, and how they are split."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seewhy.data.assignment import assign_by_fractions
from seewhy.data.patients import find_person, find_spellings
from seewhy.data.splits import PARTS, Split, choose_split, split_by_given_folds
from seewhy.data.table import ClassLabels, Row, parse_integer
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.names import safe_name

__all__ = ["Case", "Columns", "Files", "list_cases", "rarest_class", "split_cases"]


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None for a column that is not used.

    Attributes:
        id: the case's name.
        label: its class.
        patient: its patient. None takes the column `patient` where it exists and no pattern is given.
        patient_pattern: regular expression that finds the patient in the case's name: its group `patient`, else
            its first group, else the whole match.
        fold: number of its fold.
        part: train, val or test.
    """

    id: str | None = None
    label: str | None = None
    patient: str | None = None
    patient_pattern: str | None = None
    fold: str | None = None
    part: str | None = None

    def __post_init__(self) -> None:
        if self.patient is not None and self.patient_pattern is not None:
            raise ConfigError("data.patient_column and data.patient_pattern are two ways to the patient; keep one")
        try:
            re.compile(self.patient_pattern or "")
        except re.error as error:
            message = f"data.patient_pattern={self.patient_pattern!r} is not a regular expression: {error}"
            raise ConfigError(message) from error

    def required(self) -> list[tuple[str, str]]:
        """Pairs (option, column) of the columns that a table must have."""
        options = {"id": self.id, "label": self.label, "patient": self.patient, "fold": self.fold, "split": self.part}
        return [(f"data.{key}_column", column) for key, column in options.items() if column is not None]


@dataclass(frozen=True)
class Files:
    """Name and files of a case, as found from its row.

    Attributes:
        name: of the case, as written.
        files: input → file, or None where the case does not have it.
        masks: input → annotation.
        problems: messages, e.g. of files that do not exist; without the row's number.
    """

    name: str
    files: dict[str, Path | None]
    masks: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One row of a table: an eye, a scan.

    Attributes:
        id: unique and safe as a file name.
        patient: the patient of the case.
        label: class index, or None where the table has no labels.
        files: input → file, or None for an input that this case does not have.
        row: number in the table, as a spreadsheet counts; 0 for a case that is in no table.
        fold: fold given by the table, or None.
        part: `train`, `val` or `test` where a table decides it, or None.
        masks: input → annotation, for evaluation; only those that exist.
        table: the file with the row.
    """

    id: str
    patient: str
    label: int | None
    files: dict[str, Path | None]
    row: int
    fold: int | None = None
    part: str | None = None
    masks: dict[str, Path] = field(default_factory=dict)
    table: Path = Path()

    @property
    def where(self) -> str:
        """Table, row and name for messages, e.g. `labels.csv, row 7 (case P01)`."""
        return f"{self.table.name}, row {self.row} (case {self.id})" if self.row else f"case {self.id}"

    @property
    def source(self) -> str:
        """The first file, or an empty string."""
        return next((str(path) for path in self.files.values() if path is not None), "")


def list_cases(
    rows: Sequence[Row], columns: Columns, labels: ClassLabels, locate: Callable[[Row], Files]
) -> list[Case]:
    """Turn rows into cases.

    Args:
        rows: of one or several tables, at least one.
        columns: of the tables.
        labels: class indices, resolved.
        locate: finds the files of a row.

    Returns:
        One case per row, in order.

    Raises:
        DataError: all problems of all rows, at once.
    """
    cases: list[Case] = []
    problems: list[str] = []
    for row in rows:
        files = locate(row)
        case, wrong = _make_case(row, files, columns, labels)
        problems += [f"{row.where}{f' (case {files.name})' if files.name else ''}: {problem}" for problem in wrong]
        # A case with problems is still compared with the others, so that all problems are reported at once.
        cases += [case] if files.name else []
    problems += _find_repeated_ids(cases) + _find_divided_patients(cases) + _find_spellings(cases)
    if problems:
        raise DataError(problems, where=str(rows[0].table.parent))
    return cases


def _make_case(row: Row, files: Files, columns: Columns, labels: ClassLabels) -> tuple[Case, list[str]]:
    """The case of a row, and its problems."""
    problems = list(files.problems)
    if not files.name:
        problems.append("the case has no name" + (f": {columns.id!r} is empty" if columns.id else ""))
    patient = _find_patient(row, files.name, columns, problems)
    label, fold, part = None, None, row.part
    if columns.label is not None:
        try:
            label = labels.index(row[columns.label])
        except ValueError as error:
            problems.append(str(error))
    if columns.fold is not None:
        fold = parse_integer(row[columns.fold])
        if fold is None:
            problems.append(f"{columns.fold!r} is {row[columns.fold]!r}; expected the number of a fold")
    if columns.part is not None:
        part = row[columns.part].lower()
        if part not in PARTS:
            problems.append(f"{columns.part!r} is {row[columns.part]!r}; {nearest(part, PARTS)}")
    name = safe_name(re.sub(r"[^\w.\-]+", "_", files.name))
    return Case(name, patient, label, files.files, row.number, fold, part, files.masks, row.table), problems


def _find_patient(row: Row, name: str, columns: Columns, problems: list[str]) -> str:
    """The patient of a case, from its column or its name; without a column and a pattern the name itself."""
    column, pattern = columns.patient, columns.patient_pattern
    if column is None and pattern is None and "patient" in row.cells:
        column = "patient"
    if column is not None:
        if not row[column]:
            problems.append(f"{column!r} is empty; every case needs its patient")
        return row[column]
    match = re.search(pattern, name) if pattern is not None else None
    if match is None:
        if pattern is not None:
            problems.append(f"{name!r} does not match data.patient_pattern={pattern!r}")
        return name
    return str(match.groupdict().get("patient") or (match.group(1) if match.re.groups else match.group(0)))


def _find_repeated_ids(cases: Iterable[Case]) -> list[str]:
    """Problems of ids that several cases have, also those that differ in capitals only, as file systems may."""
    groups: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.id.casefold()].append(case)
    return [
        f"several cases have the name {same[0].id!r}: "
        + ", ".join(f"{case.table.name} row {case.row}" for case in same)
        for same in groups.values()
        if len(same) > 1
    ]


def _find_divided_patients(cases: Iterable[Case]) -> list[str]:
    """Problems of patients whose cases the tables put into several folds or parts."""
    first: dict[tuple[str, str], dict[int | str | None, Case]] = {}
    for case in cases:
        for kind, value in (("folds", case.fold), ("parts of the split", case.part)):
            first.setdefault((case.patient, kind), {}).setdefault(value, case)
    problems = []
    for (patient, kind), values in first.items():
        listed = [f"{'none' if v is None else v} in {c.table.name} row {c.row}" for v, c in values.items()]
        problems += [f"patient {patient!r} is in several {kind}: {', '.join(listed)}"] if len(listed) > 1 else []
    return problems


def _find_spellings(cases: Iterable[Case]) -> list[str]:
    """Problems of patients that are written in several ways, within a table or between tables."""
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.patient, case)
    return [
        "one patient is written in several ways: "
        + ", ".join(f"{name!r} in {first[name].table.name} row {first[name].row}" for name in group)
        + "; write it in one way, or rename one of them if they are different people"
        for group in find_spellings(first)
    ]


def split_cases(cases: Sequence[Case], *, stratify: bool, options: Mapping[str, Any]) -> Split:
    """Make the split that the tables and the options ask for.

    Args:
        cases: all of them.
        stratify: whether fractions and folds have the same share of every class.
        options: keyword arguments of `seewhy.data.splits.choose_split`.

    Raises:
        ConfigError: two ways at once, or a way that does not fit the data.
    """
    patients = list(dict.fromkeys(case.patient for case in cases))
    parts = {case.patient: case.part for case in cases if case.part is not None}
    folds = {case.patient: case.fold for case in cases if case.fold is not None}
    strata = rarest_class(cases) if stratify else None
    chosen = {key for key, value in options.items() if value is not None} - {"fractions", "seed"}
    if parts:
        if chosen or folds:
            names = ", ".join(f"data.{name}" for name in sorted(chosen)) or "data.fold_column"
            raise ConfigError(f"the tables decide the split, and so does {names}; keep one way")
        return _split_by_tables(patients, parts, strata, fractions=options["fractions"], seed=options["seed"])
    if folds:
        return _split_by_fold_column(folds, options, chosen)
    return choose_split(patients, strata=strata, **options)


def rarest_class(cases: Sequence[Case]) -> dict[str, int] | None:
    """For each patient the class that fewest patients have, of those of its cases; None without labels.

    A patient with an early and an advanced eye is thus grouped with the patients with advanced ones.
    """
    classes: defaultdict[str, set[int]] = defaultdict(set)
    for case in cases:
        if case.label is None:
            return None
        classes[case.patient].add(case.label)
    count = Counter(label for labels in classes.values() for label in labels)
    return {patient: min(labels, key=lambda label: (count[label], -label)) for patient, labels in classes.items()}


def _split_by_tables(
    patients: Sequence[str],
    parts: Mapping[str, str],
    strata: Mapping[str, int] | None,
    *,
    fractions: Sequence[float],
    seed: int,
) -> Split:
    """Keep the parts that the tables give; the other patients train, or fill by `fractions` the parts not given."""
    given = set(parts.values())
    people = {find_person(patient): part for patient, part in parts.items()}  # whose other scans follow
    parts = {**{name: people[find_person(name)] for name in patients if find_person(name) in people}, **parts}
    free = [patient for patient in patients if patient not in parts]
    lists = {part: [patient for patient in patients if parts.get(patient) == part] for part in PARTS}
    shares = [
        float(share) if part == "train" or part not in given else 0.0
        for part, share in zip(PARTS, fractions, strict=True)
    ]
    if free and sum(shares) <= 0:
        raise ConfigError(f"data.fractions={list(fractions)} leaves no share for the rows of data.table")
    if free:
        shares = [share / sum(shares) for share in shares]
        if len(free) < sum(share > 0 for share in shares):
            raise ConfigError(f"data.table has {len(free)} patients, too few for the parts without a table")
        for part, assigned in zip(PARTS, assign_by_fractions(free, shares, seed, strata), strict=True):
            lists[part] += assigned
    made = {"by": "tables", "given": sorted(given), "fractions": shares, "seed": seed}
    train, val, test = (tuple(patient for patient in patients if patient in set(lists[part])) for part in PARTS)
    return Split(train, val, test, made)


def _split_by_fold_column(folds: Mapping[str, int], options: Mapping[str, Any], chosen: set[str]) -> Split:
    others = sorted(chosen - {"fold", "num_folds"})
    if others:
        raise ConfigError(f"data.fold_column and data.{others[0]} are two ways to split; keep one")
    numbers = sorted(set(folds.values()))
    if options.get("fold") is None:
        raise ConfigError(f"data.fold_column is set; set data.fold, the fold to test, to one of {numbers}")
    if options.get("num_folds") not in (None, len(numbers)):
        raise ConfigError(f"data.num_folds={options['num_folds']}, but data.fold_column holds the folds {numbers}")
    return split_by_given_folds(folds, fold=options["fold"])
