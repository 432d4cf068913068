"""Read JSON files and check their types, and read tables in CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from seewhy.errors import DataError, SeewhyError
from seewhy.io.checks.sizes import check_regular_file, format_bytes
from seewhy_run.names import unprotect_cell

__all__ = ["CsvTable", "read_csv", "read_json", "read_text"]

MAX_BYTES = 1 << 30
"""Longest text; a table of a million rows has some hundred megabytes."""
SHOWN = 5
"""Problems of types in one message."""


def read_text(path: str | Path) -> str:
    """Read a file of text in UTF-8, with or without a byte order mark.

    Raises:
        DataError: the file is missing, is not a regular file, is longer than any text, or is not UTF-8.
    """
    path = Path(path)
    size = check_regular_file(path).st_size
    if size > MAX_BYTES:
        raise DataError(f"{path} has {format_bytes(size)}, too much for a file of text")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def read_json(path: str | Path, kind: Any = dict[str, Any], *, raises: type[SeewhyError] = DataError) -> Any:
    """Read a JSON file, and check its types.

    Args:
        path: the file.
        kind: type of its contents, e.g. `dict[str, list[int]]`, a `TypedDict` or a dataclass; keys that these do not
            name are accepted. Numbers in quotes and true for 1 are not numbers.
        raises: type of the errors.

    Returns:
        The contents as they are stored, or the dataclass.

    Raises:
        SeewhyError: of the type `raises`: a file that cannot be read, is not JSON, or has entries of other types; all
            of them at once.

    Example:
        >>> _ = Path("sizes.json").write_text('{"a": [1, 2], "b": "3"}')
        >>> read_json("sizes.json", dict[str, list[int]])
        Traceback (most recent call last):
        seewhy.errors.DataError: sizes.json: b is '3' (input should be a valid list)
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        text = read_text(path)
        record = json.loads(text)
    except DataError as error:
        raise raises(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise raises(f"{path} is not valid JSON ({error})") from error
    try:
        if is_dataclass(kind):
            return TypeAdapter(kind).validate_json(text, strict=True)
        TypeAdapter(kind).validate_python(record, strict=True)
    except ValidationError as error:
        problems = [_format_problem(problem) for problem in error.errors(include_url=False)]
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise raises(f"{path}: {'; '.join(problems[:SHOWN])}{more}") from error
    return record


def _format_problem(problem: Mapping[str, Any]) -> str:
    """Place, value and expectation of one problem that pydantic reports."""
    place = ".".join(map(str, problem["loc"])) or "the content"
    if problem["type"] == "missing":
        return f"{place} is missing"
    return f"{place} is {_shorten(problem['input'])} ({problem['msg'][0].lower()}{problem['msg'][1:]})"


def _shorten(value: Any) -> str:
    if isinstance(value, dict | list) and len(value) > 3:
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


@dataclass(frozen=True)
class CsvTable:
    """A table with a header.

    Attributes:
        columns: of the header, in order.
        rows: column → text of the cell; a cell that a row does not have is empty.
        numbers: of the rows, as a spreadsheet counts: the header is 1.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    numbers: list[int]


def read_csv(path: str | Path) -> CsvTable:
    r"""Read a table that `write_csv` wrote, or any with a header and commas.

    Marks that keep a spreadsheet from running a cell are removed, see `seewhy_run.names.protect_cell`.

    Raises:
        DataError: see `read_text`; or not CSV, a column that is named twice, or rows with more cells than the header.

    Example:
        >>> from seewhy.io.atomic import write_csv
        >>> _ = write_csv("a.csv", [{"id": "=1+1", "score": 0.5}], columns=("id", "score"))
        >>> Path("a.csv").read_text()
        "id,score\n'=1+1,0.5\n"
        >>> read_csv("a.csv").rows
        [{'id': '=1+1', 'score': '0.5'}]
    """
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from error
    if not lines:
        return CsvTable([], [], [])
    columns = [unprotect_cell(cell) for cell in lines[0]]
    problems = [f"column {name!r} appears twice" for name, count in Counter(columns).items() if name and count > 1]
    table = CsvTable(columns, [], [])
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        if len(line) > len(columns):
            problems.append(f"row {number} has {len(line)} cells, the header {len(columns)}")
        cells = [unprotect_cell(cell) for cell in line] + [""] * (len(columns) - len(line))
        table.rows.append(dict(zip(columns, cells, strict=False)))
        table.numbers.append(number)
    if problems:
        raise DataError([f"{path}: {problem}" for problem in problems])
    return table
