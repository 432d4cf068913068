"""Writing a phantom whole or not at all, and never over something else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder

__all__ = ["check_least", "counted", "write_once"]

REMEDY = "give another data.root, or delete that folder to have the phantom written anew"


def write_once(
    root: str | Path,
    settings: Mapping[str, Any],
    write: Callable[[Path], None],
    *,
    files: Mapping[str, int],
    kind: str,
) -> Path:
    """Write a data set, or reuse the one that the same settings made.

    Args:
        root: the data set's folder; made when it is not there.
        settings: all that the files depend on, as JSON has it, with `phantom: True`.
        write: writes everything into an empty folder, `dataset.json` with the settings too.
        files: pattern → number of files that match it; a folder with another number is not reused.
        kind: what those files are, in the plural, for messages.

    Returns:
        `root` as a path.

    Raises:
        DataError: `root` holds something else.
    """
    final = Path(root)
    if _reusable(final, settings, files, kind):
        return final
    try:
        with atomic_folder(final) as folder:
            write(folder)
    except OSError:
        # Another process (a second rank, a sweep's member) may have finished the same phantom first.
        if not _reusable(final, settings, files, kind):
            raise
    return final


def check_least(least: Mapping[str, tuple[int, int]]) -> None:
    """Refuse numbers that draw nothing.

    Args:
        least: option of the phantom → (its value, the least that it may be).

    Raises:
        ConfigError: all that are too small.
    """
    wrong = [f"phantom.{key}={value} must be at least {low}" for key, (value, low) in least.items() if value < low]
    if wrong:
        raise ConfigError("; ".join(wrong))


def counted(total: int, title: str) -> Iterator[int]:
    """Count from 0 to `total - 1`; a bar appears when it takes more than two seconds.

    Args:
        total: how far.
        title: of the bar.
    """
    started = time.monotonic()
    progress = Progress(console=Console(stderr=True), transient=True)
    task = progress.add_task(title, total=total)
    try:
        for number in range(total):
            if time.monotonic() - started > 2:
                progress.start()
            yield number
            progress.advance(task)
    finally:
        progress.stop()


def _reusable(root: Path, settings: Mapping[str, Any], files: Mapping[str, int], kind: str) -> bool:
    """Whether `root` holds exactly this phantom; False when nothing is there."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / "dataset.json"
    if not record.is_file():
        raise DataError(f"{root} exists and is no phantom (it has no dataset.json); {REMEDY}")
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{record} is no JSON ({error}); {REMEDY}") from error
    if not isinstance(found, dict) or not found.get("phantom"):
        raise DataError(f"{root} holds a data set that is no phantom; {REMEDY}")
    differing = [
        f"{key} is {found.get(key)!r}, asked for {value!r}"
        for key, value in settings.items()
        if found.get(key) != value
    ]
    if differing:
        raise DataError(f"{root} holds another phantom ({'; '.join(differing)}); {REMEDY}")
    for pattern, expected in files.items():
        count = sum(1 for _ in root.glob(pattern))
        if count != expected:
            raise DataError(f"{(root / pattern).parent} holds {count} {kind}, the phantom had {expected}; {REMEDY}")
    return True
