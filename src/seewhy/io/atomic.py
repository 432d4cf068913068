"""Files and folders that are there whole or not at all.

What tells one file from another.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["TEMPORARY_PREFIX", "atomic_folder", "atomic_path", "file_sha256", "write_csv", "write_json"]

TEMPORARY_PREFIX = ".tmp-"
"""Start of the name of everything that is still being written; listings of data sets skip such names."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it becomes `path` when the block ends without an exception.

    The temporary name ends like the final one, since writers choose the format by the suffix. Parent folders
    are made. After an exception nothing is left and an older file stays as it was.

    Args:
        path: the file to write.

    Yields:
        A path in the same folder, which does not exist yet.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(final)
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; it becomes `path` when the block ends without an exception.

    Args:
        path: the folder to make; it must not exist, or be empty.

    Yields:
        An existing empty folder in the same parent.

    Raises:
        OSError: at the end, when `path` has been filled meanwhile; the temporary folder is removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_beside(final)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, record: Any) -> Path:
    """Write one JSON file, atomically; NaN is refused because JSON has none.

    Args:
        path: the file.
        record: anything `json` takes.
    """
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str]) -> Path:
    """Write one CSV file with a header, atomically.

    Args:
        path: the file.
        rows: mappings with exactly the given columns.
        columns: their order.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def _temporary_beside(final: Path) -> Path:
    """A name in the same folder (so that the rename cannot cross file systems) with the same ending."""
    return final.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{final.name[-200:]}")


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
