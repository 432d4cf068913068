"""Write a phantom as a whole, or reuse an equal one; other data are never overwritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder, write_json
from seewhy.io.documents import read_json

__all__ = ["check_minimums", "write_or_reuse"]

RECORD = "dataset.json"
REMEDY = "set another data.root, or delete that folder so that the phantom is written again"


def write_or_reuse(
    root: str | Path,
    settings: Mapping[str, Any],
    write: Callable[[Path], None],
    *,
    files: Mapping[str, int],
    kind: str,
) -> Path:
    """Write a data set, or reuse the one that was written with the same settings.

    Args:
        root: the data set's folder; made when it is not there.
        settings: everything that the files depend on, as plain data, with `phantom: True`; kept as `dataset.json`.
        write: writes all other files into an empty folder.
        files: glob pattern → number of files; a folder with another number is not reused.
        kind: plural noun for those files, for messages.

    Returns:
        `root` as a path.

    Raises:
        DataError: `root` holds something else.
    """
    final = Path(root)
    if _is_reusable(final, settings, files, kind):
        return final
    try:
        with atomic_folder(final) as folder:
            write(folder)
            write_json(folder / RECORD, settings)
    except OSError:
        # Another process (a second rank, a sweep's member) may have finished the same phantom first.
        if not _is_reusable(final, settings, files, kind):
            raise
    return final


def check_minimums(minimums: Mapping[str, tuple[int, int]]) -> None:
    """Check that numbers are not below their minimum.

    Args:
        minimums: option of the phantom → (value, minimum).

    Raises:
        ConfigError: all numbers that are too small.
    """
    wrong = [f"phantom.{key}={value} must be at least {low}" for key, (value, low) in minimums.items() if value < low]
    if wrong:
        raise ConfigError("; ".join(wrong))


def _is_reusable(root: Path, settings: Mapping[str, Any], files: Mapping[str, int], kind: str) -> bool:
    """Return whether `root` holds exactly this phantom; False if it is missing or empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / RECORD
    if not record.is_file():
        raise DataError(f"{root} exists but holds no phantom ({RECORD} is missing); {REMEDY}")
    try:
        stored = read_json(record)
    except DataError as error:
        raise DataError(f"{error}; {REMEDY}") from error
    if not stored.get("phantom"):
        raise DataError(f"{root} holds a data set that is not a phantom; {REMEDY}")
    differing = [
        f"{key} is {stored.get(key)!r}, expected {value!r}"
        for key, value in settings.items()
        if stored.get(key) != value
    ]
    if differing:
        raise DataError(f"{root} holds another phantom ({'; '.join(differing)}); {REMEDY}")
    for pattern, expected in files.items():
        count = sum(1 for _ in root.glob(pattern))
        if count != expected:
            raise DataError(f"{(root / pattern).parent} holds {count} {kind}, expected {expected}; {REMEDY}")
    return True
