"""Convert the errors of file libraries to a `DataError` that names the file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seewhy.errors import DataError, SeewhyError
from seewhy.io.checks.recognize import recognize
from seewhy.io.checks.sizes import check_regular_file

__all__ = ["reading"]


@contextmanager
def reading(
    path: Path, *, kind: str, foreign: type[Exception], damage: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Convert errors while a file is read.

    Args:
        path: the file.
        kind: expected format, e.g. `NIfTI`.
        foreign: error of the library for a file of another format.
        damage: errors of the library for a damaged file, in addition to those of the system, of zlib and of values.

    Raises:
        DataError: the file, or a file that it refers to, is missing, is not a regular file, has another format, is
            damaged, or does not fit into memory.
    """
    check_regular_file(path)
    damaged: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zlib.error, *damage)
    try:
        yield
    except SeewhyError:
        raise
    except FileNotFoundError as error:
        other = error.filename is not None and Path(error.filename) != path
        raise DataError(f"{path}: {error.filename} does not exist" if other else f"{path} does not exist") from error
    except foreign as error:
        seems = recognize(path)
        reason = f"it seems to be {seems}" if seems and seems not in kind else str(error)
        raise DataError(f"{path} is not a readable {kind} file ({reason}); convert it or copy it again") from error
    except damaged as error:
        raise DataError(f"{path} is truncated or damaged ({error}); copy or download it again") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory ({error})") from error
