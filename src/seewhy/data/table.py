"""Tables of cases: read the rows of CSV files and map their labels to class indices."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.checks.sizes import check_regular_file
from seewhy_run.names import unprotect_cell

__all__ = ["ClassLabels", "Row", "missing_columns", "parse_integer", "read_table"]

DELIMITERS = ",;\t"
EXCEL = "sep="
"""Beginning of the first line of Excel's own tables; the delimiter follows."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        table: the file.
        number: as a spreadsheet counts, with the header as row 1.
        cells: column → text without surrounding blanks; a missing cell is empty.
        part: `train`, `val` or `test` where all rows of the table belong to that part of the split.
    """

    table: Path
    number: int
    cells: Mapping[str, str]
    part: str | None = None

    @property
    def where(self) -> str:
        """Table and row for messages, e.g. `labels.csv, row 7`."""
        return f"{self.table.name}, row {self.number}"

    def __getitem__(self, column: str) -> str:
        """Text of a cell."""
        return self.cells[column]


def read_table(path: str | Path, *, part: str | None = None) -> list[Row]:
    r"""Read a CSV file with a header; commas, semicolons or tabs, also after a byte order mark or Excel's line `sep=;`.

    Args:
        path: the file, in UTF-8.
        part: part of the split that all rows belong to; None where the table does not decide it.

    Returns:
        All lines that are not blank, at least one.

    Raises:
        DataError: no such file, not text, no header, no rows, or rows and columns that do not fit; all of them.

    Example:
        >>> _ = Path("labels.csv").write_text("caseID;label\nP1_R;late\nP2_L;early\n")
        >>> rows = read_table("labels.csv")
        >>> rows[1].where, rows[1]["label"]
        ('labels.csv, row 3', 'early')
    """
    path = Path(path)
    lines = [(number, line) for number, line in enumerate(_read_lines(path), start=1) if any(map(str.strip, line))]
    if lines and lines[0][1][0] == EXCEL:
        del lines[0]
    if not lines:
        raise DataError(f"{path} is empty; expected a header and one row per case")
    columns = [cell.strip() for cell in lines[0][1]]
    repeated = [column for column, count in Counter(columns).items() if column and count > 1]
    problems = [f"row {lines[0][0]}: column {column!r} appears twice" for column in repeated]
    if len(lines) == 1:
        problems.append(f"no rows below the header ({', '.join(columns)})")
    rows = []
    for number, line in lines[1:]:
        if any(cell.strip() for cell in line[len(columns) :]):
            problems.append(
                f"row {number} has {len(line)} cells, the header {len(columns)}; put text with commas into quotes"
            )
        cells = [cell.strip() for cell in line[: len(columns)]] + [""] * (len(columns) - len(line))
        rows.append(Row(path, number, dict(zip(columns, cells, strict=True)), part))
    if problems:
        raise DataError(problems, where=str(path))
    return rows


def _read_lines(path: Path) -> list[list[str]]:
    """Cells of every line, blank lines too, so that row numbers are those of a spreadsheet."""
    if path.exists() and not path.is_dir():
        check_regular_file(path)
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write, which would spoil the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline().removeprefix(EXCEL)
            file.seek(0)
            # The delimiter that cuts the header into most pieces; `csv.Sniffer` guesses letters for one column.
            mark = max(DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
            return [list(map(unprotect_cell, line)) for line in csv.reader(file, delimiter=mark, strict=True)]
    except (FileNotFoundError, IsADirectoryError) as error:
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {problem}; set data.table to the CSV file of the cases") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV UTF-8") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from error


def missing_columns(rows: Iterable[Row], wanted: Iterable[tuple[str, str]]) -> list[str]:
    """List the columns that tables do not have, with the nearest that exist.

    Args:
        rows: of one or several tables.
        wanted: pairs (the option that names the column, the column).
    """
    wanted = list(wanted)
    return [
        f"{table.name} has no column {column!r} ({option}); {nearest(column, cells)}"
        for table, cells in {row.table: row.cells for row in rows}.items()
        for option, column in wanted
        if column not in cells
    ]


class ClassLabels:
    """Class indices of the labels in a table.

    Args:
        labels: text → class index from 0, e.g. `{HC: 0, left: 1, right: 1}`. None accepts integers and the names in
            `classes`; without either, all labels in alphabetical order.
        num_classes: number of classes; None: as many as the labels give.
        classes: names of the classes in the order of their indices; their number is the number of classes.

    Raises:
        ConfigError: indices that are not integers from 0 to `num_classes - 1`, or numbers that do not agree.

    Example:
        >>> labels = ClassLabels({"HC": 0, "left": 1, "right": 1})
        >>> labels.num_classes, labels.index("right")
        (2, 1)
        >>> ClassLabels().resolve(["wet", "dry", "wet"]).to_dict()
        {'dry': 0, 'wet': 1}
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
        self.names = None if labels is None else {str(key).strip(): value for key, value in labels.items()}
        self.num_classes = num_classes if self.names is None else self._count_classes(self.names, num_classes)

    @staticmethod
    def _count_classes(names: Mapping[str, Any], num_classes: int | None) -> int:
        """Number of classes of `labels`, after a check that every index is one of them."""
        valid = {key: value for key, value in names.items() if isinstance(value, int) and not isinstance(value, bool)}
        count = num_classes or max([2, *(value + 1 for value in valid.values())])
        wrong = [f"{key}: {value!r}" for key, value in names.items() if key not in valid or not 0 <= value < count]
        if wrong or not names:
            listed = ", ".join(wrong) or "nothing"
            raise ConfigError(f"data.labels holds {listed}; expected text with class indices from 0 to {count - 1}")
        return count

    def resolve(self, texts: Iterable[str]) -> ClassLabels:
        """Complete what the options leave open by all labels of the tables.

        Args:
            texts: every cell of the label column, of all tables.
        """
        labels = sorted({text for text in texts if text})
        if self.names is not None or self.classes is not None or not labels:
            return self
        numbers = [number for number in map(parse_integer, labels) if number is not None]
        if numbers:
            return ClassLabels(None, self.num_classes or max(2, max(numbers) + 1))
        return ClassLabels({text: index for index, text in enumerate(labels)}, self.num_classes)

    def index(self, text: str) -> int:
        """Class index of a cell.

        Raises:
            ValueError: an unknown label; the message has what is expected.
        """
        if not text:
            raise ValueError("the label is empty; data.label_column=null predicts without labels")
        number = parse_integer(text)
        if self.names is not None:
            for key in (text, str(number)):  # spreadsheets turn the class 1 into 1.0
                if key in self.names:
                    return int(self.names[key])
            raise ValueError(f"the label {text!r} is unknown; {nearest(text, self.names)}")
        if self.classes is not None and text in self.classes:
            return self.classes.index(text)
        if number is None or number < 0 or (self.num_classes is not None and number >= self.num_classes):
            top = "" if self.num_classes is None else f" to {self.num_classes - 1}"
            names = "" if self.classes is None else f", or a class's name ({nearest(text, self.classes)})"
            raise ValueError(f"the label {text!r} is unknown; expected an index from 0{top}{names}; or set data.labels")
        return number

    def to_dict(self) -> dict[str, int] | None:
        """Text → class index as plain data, or None where labels are integers without names."""
        if self.names is None and self.classes is not None:
            return {name: index for index, name in enumerate(self.classes)}
        return None if self.names is None else dict(self.names)


def parse_integer(text: str) -> int | None:
    """Integer in a text, also written as `1.0`; None if there is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
