"""Tables of cases: a CSV file as rows of text, each with the number that a spreadsheet shows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from seewhy.errors import DataError, nearest

__all__ = ["Row", "Table", "read_table"]

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
