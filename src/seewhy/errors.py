"""Errors that a user can cause and correct; the commands print them as messages, without a traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Sequence

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExplanationError",
    "ExportError",
    "SeewhyError",
    "describe_system_error",
    "nearest",
]


class SeewhyError(Exception):
    """Base class of errors that a user can correct; the commands print the message and exit with status 1."""


class ConfigError(SeewhyError):
    """A choice in the configuration or on the command line that does not exist or does not fit."""


class CheckpointError(SeewhyError):
    """A checkpoint or weights file that is missing, unsafe to load, or made for another network."""


class ExplanationError(SeewhyError):
    """An explainer refuses a model because its map would be wrong."""


class ExportError(SeewhyError):
    """A network that cannot be exported, or whose export gives other results."""


class DataError(SeewhyError):
    """One or more problems of a data set, collected so that all are reported at once.

    Args:
        problems: one message, or one per problem.
        where: the file or folder with the problems.
        shown: number of problems in the message; `problems` keeps all.

    Example:
        >>> print(DataError(["a.npy is empty", "b.npy is cut off"], where="imageSlice"))
        imageSlice: 2 problems:
          - a.npy is empty
          - b.npy is cut off
    """

    def __init__(self, problems: str | Sequence[str], *, where: str | None = None, shown: int = 20) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        head = f"{where}: " if where else ""
        if len(self.problems) == 1:
            text = head + self.problems[0]
        else:
            lines = [f"  - {problem}" for problem in self.problems[:shown]]
            rest = len(self.problems) - shown
            if rest > 0:
                lines.append(f"  … and {rest} more")
            text = f"{head}{len(self.problems)} problems:\n" + "\n".join(lines)
        super().__init__(text)


def nearest(name: str, valid: Iterable[str], *, count: int = 3) -> str:
    """Format the valid names that are closest to a mistyped one, for the end of an error message.

    Example:
        >>> nearest("bratz", ["amd", "brats", "lasc"])
        "nearest: 'brats'"
        >>> nearest("x", ["amd", "brats"])
        "valid: 'amd', 'brats'"
    """
    options = sorted(set(valid))
    close = difflib.get_close_matches(name, options, n=count, cutoff=0.5) or options[: 2 * count]
    label = "nearest" if len(close) < len(options) else "valid"
    return f"{label}: " + ", ".join(repr(option) for option in close) if close else "none exist"


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a disk that is full or may not be written to."""
PATH_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of paths that do not or cannot exist; without a path they are errors of something else."""

NO_MEMORY = "can't allocate memory|out of memory"
"""In messages of torch, on CPU and GPU."""


def describe_system_error(error: BaseException, *, any_code: bool = False) -> str | None:
    """Describe an error of a path, a full disk or of too little memory in one line; None for other errors.

    Args:
        error: of any kind.
        any_code: describe the other errors of the operating system too.

    Example:
        >>> describe_system_error(FileNotFoundError(2, "No such file or directory", "/none/scan.nii"))
        '/none/scan.nii cannot be opened or written: No such file or directory'
    """
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # of pathlib before Python 3.13
        return str(error)
    if isinstance(error, MemoryError) or re.search(NO_MEMORY, str(error)):
        reason = " ".join(str(error).split(". ")[0].split())
        return f"there is not enough memory ({reason or 'of this machine'}); use smaller images, patches or batches"
    if not isinstance(error, OSError):
        return None
    named = isinstance(error.filename, str | bytes) and error.errno in PATH_ERRORS
    if not (any_code or named or error.errno in DISK_ERRORS):
        return None
    named_last = error.filename if error.filename2 is None else error.filename2  # a rename: what was to be replaced
    name = os.fsdecode(named_last) if isinstance(named_last, str | bytes) else "a file"
    return f"{name if len(name) < 300 else name[:100] + '…'} cannot be opened or written: {error.strerror or error}"
