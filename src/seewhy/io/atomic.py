"""Atomic writes and exclusive creation of files and folders, temporary folders, and checksums."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import math
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy_run.checksums import file_sha256
from seewhy_run.names import protect_cell

__all__ = [
    "TEMPORARY_PREFIX",
    "atomic_folder",
    "atomic_path",
    "create_exclusively",
    "create_json",
    "file_sha256",
    "list_files",
    "replace_non_finite",
    "temporary_beside",
    "temporary_folder",
    "write_csv",
    "write_json",
]

TEMPORARY_PREFIX = ".tmp-"
"""Prefix of names of files and folders that are still being written; listings of data sets skip them."""
FOLDER_PREFIX = "seewhy-"
"""Prefix of names of temporary folders."""
OWNED = re.compile(rf"(?:{re.escape(TEMPORARY_PREFIX)}|{FOLDER_PREFIX})(?P<machine>[0-9a-f]{{8}})-(?P<process>\d+)-.+")
"""Temporary names, with the machine and the process that made them."""
ABANDONED = 7 * 24 * 3600
"""Seconds after which what a process of another machine left is removed; whether it runs cannot be known here."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces `path` when the block ends without an exception.

    The temporary name has the same suffix, because writers choose the format by it. Parent folders are created.
    After an exception the temporary file is removed and an existing file stays unchanged. What a killed process left
    in the folder is removed by the next process that writes into it.

    Args:
        path: the file to write.

    Yields:
        A path in the same folder that does not exist yet.

    Example:
        >>> with atomic_path("notes.txt") as temporary:
        ...     _ = temporary.write_text("complete")
        >>> Path("notes.txt").read_text()
        'complete'
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(final)
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def list_files(folder: str | Path, pattern: str) -> list[Path]:
    """List the finished files of a folder in order of their paths, without those that a killed process was writing.

    Args:
        folder: may be missing.
        pattern: of `Path.glob`; `**/` in front searches the folders below, too.

    Example:
        >>> Path("maps").mkdir()
        >>> for name in ("b.png", "a.png", ".tmp-0a1b2c3d-7-c.png"):
        ...     Path("maps", name).touch()
        >>> [path.name for path in list_files("maps", "*.png")]
        ['a.png', 'b.png']
    """
    paths = sorted(path for path in Path(folder).glob(pattern) if path.is_file())
    below = [path.relative_to(folder).parts for path in paths]
    return [path for path, parts in zip(paths, below, strict=True) if not any(part[0] == "." for part in parts)]


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to `path` that becomes `path` when the block ends without an exception.

    Args:
        path: the folder to create; it must not exist, or be empty.

    Yields:
        An existing empty folder in the same parent.

    Raises:
        OSError: `path` is no longer empty when the block ends; the temporary folder is removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(final)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, record: Any) -> Path:
    """Write one JSON file atomically; NaN raises a ValueError, because JSON does not support it.

    Args:
        path: the file.
        record: data that `json` can write.
    """
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def replace_non_finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None in plain data.

    Example:
        >>> replace_non_finite({"auroc": float("nan"), "curve": (0.5, float("inf"))})
        {'auroc': None, 'curve': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def create_json(path: Path, record: Mapping[str, Any]) -> bool:
    """Create a JSON file atomically; False if it exists, even if another process creates it at the same time.

    What a killed process left in the folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    if path.exists():
        return False
    try:
        temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links on this file system: the last writer wins, and all compare equal or fail later
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def create_exclusively(path: Path, content: bytes) -> bool:
    """Create a file unless it exists; of several processes exactly one succeeds, also on NFS 3 and later.

    The content is written after the file is created, so a reader may find it empty for a moment.

    Returns:
        Whether it was created here.

    Raises:
        DataError: it can neither be created nor does it exist.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise DataError(
            f"{path} cannot be created ({error.strerror or error}); free space or check the rights"
        ) from error
    try:
        os.write(handle, content)
    finally:
        os.close(handle)
    return True


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]], *, columns: Sequence[str] | None = None) -> Path:
    """Write one CSV file with a header atomically.

    Text that a spreadsheet would run as a formula is marked, see `seewhy_run.names.protect_cell`;
    `seewhy.io.documents.read_csv` removes the marks.

    Args:
        path: the file.
        rows: mappings; a column that a row does not have stays empty.
        columns: all columns in order; None takes those of the rows, in the order in which they appear.

    Raises:
        ValueError: a row has a column that is not in `columns`.
    """
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row)) if columns is None else columns
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        plain = csv.DictWriter(file, columns, lineterminator="\n")
        # Before Python 3.13 a carriage return alone is not quoted, and would end the row for its reader.
        quoted = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in ({name: name for name in columns}, *rows):
            cells = {name: protect_cell(value) for name, value in row.items()}
            writer = quoted if any("\r" in str(cell) for cell in cells.values()) else plain
            writer.writerow(cells)
    return Path(path)


def temporary_beside(final: Path) -> Path:
    """A path in the same folder (a rename must not cross file systems) with the same suffix, for this process.

    Example:
        >>> temporary_beside(Path("runs/last.ckpt")).suffix
        '.ckpt'
    """
    _remove_abandoned(str(final.parent), os.getpid())
    return final.with_name(f"{TEMPORARY_PREFIX}{_owner()}-{uuid.uuid4().hex[:8]}-{final.name[-50:]}")


def _owner() -> str:
    """Name of this machine and process in temporary names."""
    return f"{_machine()}-{os.getpid()}"


@functools.cache
def _machine() -> str:
    """Eight hexadecimal digits for this machine, or this container: process numbers are unique within it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


@functools.lru_cache(maxsize=4096)
def _remove_abandoned(folder: str, process: int) -> None:
    """Remove what ended processes left in a folder; done once per folder and process.

    Args:
        folder: it may not exist.
        process: number of this process.
    """
    try:
        entries = [path for path in Path(folder).iterdir() if path.name.startswith((TEMPORARY_PREFIX, FOLDER_PREFIX))]
    except OSError:
        return
    for path in entries:
        owner = OWNED.fullmatch(path.name)
        if owner is None or not _is_abandoned(path, owner["machine"], int(owner["process"])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    """Whether the process that made a temporary path has ended."""
    if machine != _machine():
        try:
            return time.time() - path.lstat().st_mtime > ABANDONED
        except OSError:
            return False
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it runs for another user
        return False
    return False


def temporary_folder() -> Path:
    """Create a folder that is removed when this process ends, in the main process and in those of `multiprocessing`.

    The folder of a process that was killed is removed by the next one that calls this.

    A forked process does not remove the folder of its parent. Worker processes skip `atexit`, so a finalizer of
    `multiprocessing` is used, with a priority below 0: it runs after child processes have ended.
    """
    _remove_abandoned(tempfile.gettempdir(), os.getpid())
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{_owner()}-"))
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-10)
    return folder
