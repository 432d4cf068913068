"""Cases: what is known of each row of a table before any image is read.

Tables of cases: a CSV file as rows of text, each with the number that a spreadsheet shows.

From the text in a table's label column to a class index.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seewhy.data.splits import PARTS
from seewhy.errors import ConfigError, DataError, nearest

__all__ = ["Case", "ClassLabels", "Columns", "Files", "Row", "Table", "list_cases", "read_table"]

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        table: the file.
        number: as a spreadsheet counts, the header being row 1.
        cells: column → text without surrounding blanks; an absent cell is empty.
    """

    table: Path
    number: int
    cells: Mapping[str, str]

    @property
    def where(self) -> str:
        """For messages: `labels.csv, row 7`."""
        return f"{self.table.name}, row {self.number}"

    def __getitem__(self, column: str) -> str:
        """Text of a cell."""
        return self.cells[column]


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        path: the file.
        columns: its header.
        rows: all lines with anything in them.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def lacks(self, wanted: Iterable[tuple[str, str]]) -> list[str]:
        """Say which columns are missing.

        Args:
            wanted: pairs (the option that names the column, the column).

        Returns:
            One sentence per missing column, with the nearest that exist.
        """
        return [
            f"{self.path.name} has no column {column!r} ({option}); {nearest(column, self.columns)}"
            for option, column in wanted
            if column not in self.columns
        ]


def read_table(path: str | Path) -> Table:
    """Read a CSV file with a header; commas, semicolons or tabs, with or without a byte order mark.

    Args:
        path: the file, in UTF-8.

    Raises:
        DataError: no such file, not text, no header, no rows, or rows and columns that do not fit; all of them.
    """
    path = Path(path)
    lines = [(number, line) for number, line in enumerate(_lines(path), start=1) if any(cell.strip() for cell in line)]
    if not lines:
        raise DataError(f"{path} is empty; expected a header and one row per case")
    columns = tuple(cell.strip() for cell in lines[0][1])
    problems = _wrong_header(columns, lines[0][0])
    if len(lines) == 1:
        problems.append(f"there are no rows below the header ({', '.join(columns)})")
    rows = []
    for number, line in lines[1:]:
        if len(line) > len(columns) and any(cell.strip() for cell in line[len(columns) :]):
            problems.append(
                f"row {number} has {len(line)} cells, the header {len(columns)}; put text with commas into quotes"
            )
        cells = [cell.strip() for cell in line[: len(columns)]] + [""] * (len(columns) - len(line))
        rows.append(Row(path, number, dict(zip(columns, cells, strict=True))))
    if problems:
        raise DataError(problems, where=str(path))
    return Table(path, columns, tuple(rows))


def _lines(path: Path) -> list[list[str]]:
    """Cells of every line, blank lines too, so that numbers stay those of a spreadsheet."""
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write, which would spoil the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            return list(csv.reader(file, delimiter=_delimiter(header), strict=True))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; set data.table to the CSV file of the cases") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; set data.table to the CSV file of the cases") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error.reason}); save it as CSV UTF-8") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from error


def _delimiter(header: str) -> str:
    """The separator that cuts the header into most pieces; `csv.Sniffer` guesses letters for one column."""
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _wrong_header(columns: tuple[str, ...], number: int) -> list[str]:
    problems = [f"row {number}: column {column!r} is there twice" for column in _repeated(columns) if column]
    if not any(columns):
        problems.append(f"row {number}: the header is empty")
    return problems


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]


class ClassLabels:
    """What the labels of a table mean.

    Args:
        labels: text → class index from 0, e.g. `{HC: 0, left: 1, right: 1}`; None takes whole numbers as they
            are and names of classes; where neither is there, all names in alphabetical order.
        num_classes: number of classes; None means as many as there are.
        classes: names of the classes in the order of their indices; they give the number too.

    Raises:
        ConfigError: indices that are no whole numbers from 0 to `num_classes - 1`, or numbers that differ.
    """

    def __init__(
        self,
        labels: Mapping[Any, Any] | None = None,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.classes = None if classes is None else tuple(str(name) for name in classes)
        if self.classes is not None:
            if len(set(self.classes)) < len(self.classes) or num_classes not in (None, len(self.classes)):
                raise ConfigError(
                    f"data.classes={list(self.classes)} must be different names, one for each of "
                    f"data.num_classes={num_classes}"
                )
            num_classes = len(self.classes)
        if num_classes is not None and num_classes < 2:
            raise ConfigError(f"there must be 2 classes or more; data.num_classes or data.classes gives {num_classes}")
        self.num_classes = num_classes
        self.names = None if labels is None else {str(key).strip(): value for key, value in labels.items()}
        if self.names is not None:
            self._check(self.names)

    def _check(self, names: Mapping[str, Any]) -> None:
        """Refuse indices outside the classes, and count the classes where their number is not given."""
        whole = {key: value for key, value in names.items() if isinstance(value, int) and not isinstance(value, bool)}
        top = self.num_classes or max([2, *(value + 1 for value in whole.values())])
        wrong = [f"{key}: {value!r}" for key, value in names.items() if key not in whole or not 0 <= value < top]
        if wrong or not names:
            found = ", ".join(wrong) or "nothing"
            raise ConfigError(f"data.labels holds {found}; expected text with class indices from 0 to {top - 1}")
        self.num_classes = top

    def settle(self, texts: Iterable[str]) -> ClassLabels:
        """The same with every open question answered by all labels that there are.

        Args:
            texts: every cell of the label column, of all tables.
        """
        found = {text for text in texts if text}
        if self.names is not None or self.classes is not None or not found:
            return self
        numbers = [number for number in map(_whole, found) if number is not None]
        if not numbers:
            names = sorted(found)
            return ClassLabels({text: index for index, text in enumerate(names)}, self.num_classes)
        return ClassLabels(None, self.num_classes or max(2, max(numbers) + 1))

    def index(self, text: str) -> int:
        """Class index of a cell.

        Raises:
            ValueError: it is none; the message says what is expected.
        """
        if not text:
            raise ValueError("the label is empty; data.label_column=null predicts without labels")
        number = _whole(text)
        if self.names is not None:
            for key in (text, str(number)):  # spreadsheets turn the class 1 into 1.0
                if key in self.names:
                    return int(self.names[key])
            raise ValueError(f"the label {text!r} is unknown; {nearest(text, self.names)}")
        if self.classes is not None and text in self.classes:
            return self.classes.index(text)
        if number is None or number < 0 or (self.num_classes is not None and number >= self.num_classes):
            top = "" if self.num_classes is None else f" to {self.num_classes - 1}"
            known = "" if self.classes is None else f", or a class's name ({nearest(text, self.classes)})"
            raise ValueError(f"the label {text!r} is unknown; expected an index from 0{top}{known}; or set data.labels")
        return number

    def record(self) -> dict[str, int] | None:
        """Text → class index as plain data, or None where labels are numbers without names."""
        if self.names is None and self.classes is not None:
            return {name: index for index, name in enumerate(self.classes)}
        return None if self.names is None else dict(self.names)


def _whole(text: str) -> int | None:
    """The whole number that a text stands for, `1.0` too; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


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
