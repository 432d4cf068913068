"""Answers in words to what a client did wrong, and error messages without folders of the server."""

from __future__ import annotations

import re
from pathlib import Path

from seewhy.errors import DataError, SeewhyError

__all__ = ["RequestError", "format_problem"]

SHOWN = 5
"""Problems of one case that are named; further ones are counted."""
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s;,:'\"/]+/)+")
"""Folders of an absolute path, not those of an address."""
LONGEST = 1000
"""Letters of a message."""


class RequestError(SeewhyError):
    """A request that is not answered.

    Args:
        message: what was found, what was expected, and what to do.
        status: of HTTP.
    """

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def format_problem(error: Exception, *, folder: Path) -> str:
    r"""Format the message of an error as one line, in which files have their names alone, without folders.

    Args:
        error: any error.
        folder: of the server's temporary files.

    Example:
        >>> format_problem(ValueError("/tmp/a/jobs/1/scan.nii is\n empty"), folder=Path("/tmp/a"))
        'scan.nii is empty'
    """
    problems = error.problems if isinstance(error, DataError) and len(error.problems) > 1 else [str(error)]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    text = " ".join("; ".join([*problems[:SHOWN], *more]).split())
    text = re.sub(rf"{re.escape(str(folder))}/(?:[^\s;,'\"]*/)?", "", text)
    text = FOLDERS.sub("", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
