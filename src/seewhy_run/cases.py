"""Cases from the words of the command line, or from a table with one case per row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from seewhy_run.errors import RunError, suggest
from seewhy_run.names import safe_name, unprotect_cell

__all__ = ["Case", "list_cases"]

SUFFIXES = (".nii.gz", ".ome.zarr", ".nii", ".zarr", ".npy", ".png", ".jpg", ".jpeg", ".tif", ".tiff")

Case = tuple[str, dict[str, Path | None]]
"""Name of a case, and input → file or None."""


def list_cases(words: Sequence[str], inputs: Sequence[str], *, table: Path | None, optional: bool) -> list[Case]:
    """List the cases to run.

    Args:
        words: paths, each a case of its own, where a case has one input; else `input=path` of one case.
        inputs: names of a case's files.
        table: CSV with the columns `id` and one per input, with paths relative to its folder; None takes the words.
        optional: whether a case may lack some of its inputs.

    Raises:
        RunError: no case, unknown or missing inputs, or a name that two cases have.

    Example:
        >>> list_cases(["scans/p1.nii.gz"], ["image"], table=None, optional=False)[0][0]
        'p1'
    """
    if table is not None and words:
        raise RunError("give files or --table, not both")
    cases = _read_table(table, inputs) if table is not None else _parse_words(words, inputs)
    if not cases:
        names = " ".join(f"{name}=FILE" for name in inputs) if len(inputs) > 1 else "FILE …"
        raise RunError(f"no case was given; expected {names}, or --table=FILE.csv")
    for name, files in cases:
        missing = [key for key in inputs if files.get(key) is None]
        if len(missing) == len(inputs) or (missing and not optional):
            raise RunError(f"case {name} has no {', '.join(missing)}; expected {', '.join(inputs)}")
    folded = [name.casefold() for name, _ in cases]
    twice = next((name for name in folded if folded.count(name) > 1), None)
    if twice is not None:
        raise RunError(f"two cases have the name {twice!r}, and would overwrite each other's files; rename one of them")
    return cases


def _parse_words(words: Sequence[str], inputs: Sequence[str]) -> list[Case]:
    named = {}
    for word in words:
        key, separator, value = word.partition("=")
        if len(inputs) == 1 and not (separator and key == inputs[0]):
            continue
        if not separator or key not in inputs:
            raise RunError(f"{word!r}: expected input=FILE with {', '.join(inputs)}; {suggest(key, inputs)}")
        if key in named and len(inputs) > 1:
            raise RunError(f"{key} is given twice; several cases need --table")
        named[key] = Path(value)
    if len(inputs) == 1:
        paths = [Path(word.removeprefix(f"{inputs[0]}=")) for word in words]
        return [(_stem(path), {inputs[0]: path}) for path in paths]
    first = next(iter(named.values()), None)
    return [] if first is None else [(_stem(first), {name: named.get(name) for name in inputs})]


def _read_table(path: Path, inputs: Sequence[str]) -> list[Case]:
    if not path.is_file():
        raise RunError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; expected a table in CSV")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read as CSV ({error})") from error
    columns = [unprotect_cell(cell) for cell in lines[0]] if lines else []
    missing = [name for name in ("id", *inputs) if name not in columns]
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if missing or twice:
        problem = f"has no column {', '.join(missing)}" if missing else f"has the column {twice} twice"
        raise RunError(f"{path} {problem}; expected id, {', '.join(inputs)} and commas between them")
    cases = []
    for number, line in enumerate(lines[1:], start=2):
        cells = dict(zip(columns, map(unprotect_cell, line), strict=False))
        if not line:
            continue
        if len(line) > len(columns) or not cells.get("id"):
            problem = "no id" if not cells.get("id") else f"{len(line)} cells, the header {len(columns)}"
            raise RunError(f"{path}, row {number} has {problem}")
        files = {name: path.parent / cells[name] if cells.get(name) else None for name in inputs}
        cases.append((safe_name(cells["id"]), files))
    return cases


def _stem(path: Path) -> str:
    """Name of a case, from its file's without the ending."""
    name = path.name.rpartition("#")[2]  # the patient of a folder of slices
    return safe_name(next((name[: -len(end)] for end in SUFFIXES if name.lower().endswith(end)), name))
