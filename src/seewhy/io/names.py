"""Names of patients and samples as names of files: made safe, and compared so that none overwrites another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from seewhy_run.names import MAX_BYTES, safe_name

__all__ = ["MAX_BYTES", "find_name_clashes", "safe_name"]


def find_name_clashes(names: Iterable[str], kind: str) -> list[str]:
    """Report different names that would be the same file name, also those that differ in capitals only.

    Args:
        names: of the samples or patients of a data set.
        kind: for the message, e.g. `patients`.

    Example:
        >>> find_name_clashes(["a/b", "a:b", "c"], "patients")
        ["the patients 'a/b' and 'a:b' would both be written to files named 'a_b'; rename one of them"]
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[safe_name(name).casefold()].append(name)
    return [
        f"the {kind} {', '.join(map(repr, same[:-1]))} and {same[-1]!r} would {'both' if len(same) == 2 else 'all'} "
        f"be written to files named {safe_name(same[0])!r}; rename one of them"
        for same in groups.values()
        if len(same) > 1
    ]
