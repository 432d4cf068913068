"""What libraries raise about a bad file, turned into one sentence that names it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seewhy.errors import DataError

__all__ = ["reading"]


@contextmanager
def reading(
    path: Path, *, kind: str, foreign: type[Exception], damage: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Guard the reading of a file.

    Args:
        path: the file.
        kind: what it should be, e.g. `NIfTI`.
        foreign: what the library raises for a file of another kind.
        damage: what it raises for a damaged one, besides errors of the system, of zlib and of values.

    Raises:
        DataError: the file, or one that it names, is missing, is of another kind, or is damaged.
    """
    damaged: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zlib.error, *damage)
    try:
        yield
    except FileNotFoundError as error:
        other = error.filename is not None and Path(error.filename) != path
        missing = f"{path}: {error.filename}" if other else f"{path}"
        raise DataError(f"{missing} does not exist") from error
    except foreign as error:
        raise DataError(f"{path} is no readable {kind} ({error}); copy or download it again") from error
    except damaged as error:
        raise DataError(f"{path} is cut off or damaged ({error}); copy or download it again") from error
