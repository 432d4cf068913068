"""The error that a user of an export can correct; the command prints it as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["RunError", "suggest"]


class RunError(ValueError):
    """An export, a file or an option that cannot be used, with what was expected."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """Format the names nearest to a mistyped one, or all if none is near.

    Example:
        >>> from seewhy_run.errors import suggest
        >>> suggest("classifi", ["classify", "translate"])
        "nearest: 'classify'"
    """
    options = sorted(set(valid))
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    return ("nearest: " if close else "valid: ") + ", ".join(map(repr, close or options))
