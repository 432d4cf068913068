"""Our own errors: what a user can cause and mend, said in words instead of a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["CheckpointError", "ConfigError", "DataError", "ExplanationError", "SeewhyError", "nearest"]


class SeewhyError(Exception):
    """An error a user can cause and mend; the commands print its message alone and exit with status 1."""


class ConfigError(SeewhyError):
    """A choice in the configuration or on the command line that does not exist or does not fit."""


class CheckpointError(SeewhyError):
    """A checkpoint or weights file that is missing, unsafe to load, or made for another network."""


class ExplanationError(SeewhyError):
    """A method cannot explain this module truthfully, and refuses rather than give a wrong map."""


class DataError(SeewhyError):
    """One or more problems of a data set, collected so that a user sees them all at once."""

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
    """Say which valid names are closest to a mistyped one, e.g. ``"nearest: 'brats', 'lasc'"``."""
    options = sorted(set(valid))
    close = difflib.get_close_matches(name, options, n=count, cutoff=0.5) or options[: 2 * count]
    label = "nearest" if len(close) < len(options) else "valid"
    return f"{label}: " + ", ".join(repr(option) for option in close) if close else "none exist"
