"""Cases: what is known of each row of a table before any image is read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seewhy.data.class_labels import ClassLabels
from seewhy.data.splits import PARTS
from seewhy.data.table import Row, Table
from seewhy.errors import ConfigError, DataError, nearest

__all__ = ["Case", "Columns", "Files", "list_cases"]


@dataclass(frozen=True)
class Case:
    """One row of a table: an eye, a scan.

    Attributes:
        id: unique and safe as a file name.
        patient: whose case it is.
        label: class index, or None where the table has no labels.
        files: input → file, or None for an input that this case lacks.
        row: number in the table, as a spreadsheet counts.
        fold: fold that the table gives, or None.
        part: `train`, `val` or `test` where a table says so, or None.
        masks: input → annotation, for evaluation; those that there are.
        table: the file that the row is in.
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
        """For messages: `labels.csv, row 7 (case P01)`."""
        return f"{self.table.name}, row {self.row} (case {self.id})"

    @property
    def source(self) -> str:
        """The first file, or an empty string."""
        return next((str(path) for path in self.files.values() if path is not None), "")


@dataclass(frozen=True)
class Columns:
    """Where a table says what; None means that it does not.

    Attributes:
        id: the case's name.
        label: its class.
        patient: its patient. None takes the column `patient` where there is one and no pattern is given.
        patient_pattern: regular expression that finds the patient in the case's name: its group `patient`, else
            its first group, else all that matched.
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
            raise ConfigError(
                f"data.patient_pattern={self.patient_pattern!r} is no regular expression: {error}"
            ) from error

    def named(self) -> list[tuple[str, str]]:
        """Pairs (option, column) of the columns that a table must have."""
        options = {"id": self.id, "label": self.label, "patient": self.patient, "fold": self.fold, "split": self.part}
        return [(f"data.{key}_column", column) for key, column in options.items() if column is not None]


@dataclass(frozen=True)
class Files:
    """What a row leads to.

    Attributes:
        name: of the case, as written.
        files: input → file, or None where the case lacks it.
        masks: input → annotation.
        problems: what is wrong with it, e.g. files that do not exist; without the row's number.
    """

    name: str
    files: dict[str, Path | None]
    masks: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def list_cases(
    tables: Sequence[tuple[Table, str | None]], columns: Columns, labels: ClassLabels, locate: Callable[[Row], Files]
) -> list[Case]:
    """Turn tables into cases.

    Args:
        tables: pairs (table, the part of the split that all its rows are of or None).
        columns: where the tables say what.
        labels: what their labels mean, settled.
        locate: finds the files of a row.

    Returns:
        One case per row, in order.

    Raises:
        DataError: everything that is wrong with any row, at once.
    """
    cases: list[Case] = []
    problems: list[str] = []
    for table, part in tables:
        for row in table.rows:
            found = _case(row, table, part, columns, labels, locate, problems)
            if found is not None:
                cases.append(found)
    problems += _same_names(cases) + _torn_patients(cases)
    if problems:
        raise DataError(problems, where=str(tables[0][0].path.parent) if tables else None)
    return cases


def _case(
    row: Row,
    table: Table,
    part: str | None,
    columns: Columns,
    labels: ClassLabels,
    locate: Callable[[Row], Files],
    problems: list[str],
) -> Case | None:
    """The case of a row; what is wrong with it is added to `problems`."""
    files = locate(row)
    wrong = list(files.problems)
    if not files.name:
        wrong.append("the case has no name" + (f": {columns.id!r} is empty" if columns.id else ""))
    patient = _patient(row, table, columns, files.name, wrong)
    label = None
    if columns.label is not None:
        try:
            label = labels.index(row[columns.label])
        except ValueError as error:
            wrong.append(str(error))
    fold = _fold(row, columns, wrong)
    if columns.part is not None:
        part = row[columns.part].lower()
        if part not in PARTS:
            wrong.append(f"{columns.part!r} is {row[columns.part]!r}; {nearest(part, PARTS)}")
    problems += [f"{row.where}{f' (case {files.name})' if files.name else ''}: {problem}" for problem in wrong]
    if not files.name:
        return None
    # A case with problems is still compared with the others, so that all problems come out at once.
    name = re.sub(r"[^\w.\-]+", "_", files.name).lstrip(".") or "_"
    return Case(
        id=name, patient=patient, label=label, files=files.files, row=row.number, fold=fold, part=part,
        masks=files.masks, table=row.table,
    )  # fmt: skip


def _patient(row: Row, table: Table, columns: Columns, name: str, wrong: list[str]) -> str:
    column = columns.patient
    if column is None and columns.patient_pattern is None and "patient" in table.columns:
        column = "patient"
    if column is not None:
        if not row[column]:
            wrong.append(f"{column!r} is empty; every case needs its patient")
        return row[column]
    if columns.patient_pattern is None:
        return name
    match = re.search(columns.patient_pattern, name)
    if match is None:
        wrong.append(f"{name!r} does not match data.patient_pattern={columns.patient_pattern!r}")
        return name
    groups = match.groupdict()
    return str(groups.get("patient") or (match.group(1) if match.re.groups else match.group(0)))


def _fold(row: Row, columns: Columns, wrong: list[str]) -> int | None:
    if columns.fold is None:
        return None
    try:
        value = float(row[columns.fold])
        if value.is_integer():
            return int(value)
    except ValueError:
        pass
    wrong.append(f"{columns.fold!r} is {row[columns.fold]!r}; expected the number of a fold")
    return None


def _same_names(cases: Iterable[Case]) -> list[str]:
    """Ids that name several cases."""
    rows: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        rows[case.id.casefold()].append(case)  # file systems may not tell capitals apart
    return [
        f"the name {same[0].id!r} stands for several cases: "
        + ", ".join(f"{case.table.name} row {case.row}" for case in same)
        for same in rows.values()
        if len(same) > 1
    ]


def _torn_patients(cases: Iterable[Case]) -> list[str]:
    """Patients whose cases the tables put into several folds or parts."""
    of_patient: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of_patient[case.patient].append(case)
    problems = []
    for patient, own in of_patient.items():
        sayings: dict[str, list[int | str | None]] = {
            "folds": [case.fold for case in own],
            "parts of the split": [case.part for case in own],
        }
        for what, values in sayings.items():
            if len(set(values)) > 1:
                first = {value: case for case, value in zip(reversed(own), reversed(values), strict=True)}
                told = ", ".join(
                    f"{'undecided' if value is None else value} in {first[value].table.name} row {first[value].row}"
                    for value in dict.fromkeys(values)
                )
                problems.append(f"patient {patient!r} is in several {what}: {told}")
    return problems
