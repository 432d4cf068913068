"""Names of patients and samples as names of files: made safe, and compared so that none overwrites another."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["find_name_clashes", "safe_name"]

FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff<>:"/\\|?*]+')
"""Separators of folders, control characters, halves of surrogate pairs, and what Windows does not allow."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that are devices on Windows, with any ending."""
MAX_BYTES = 160
"""Longest name, of the 255 bytes that file systems allow; the rest is for what writers add to it."""


def safe_name(name: str) -> str:
    """Make a name that is one part of a path on every file system; safe names stay as they are.

    Characters that no file system, or not every one, allows become `_`; blanks and dots at the ends are removed. A
    name that is too long keeps its beginning and ends in a hash of all of it. Making a safe name safe changes nothing.

    Args:
        name: e.g. of a patient, as a table gives it.

    Example:
        >>> safe_name("P 01"), safe_name("../../etc/passwd"), safe_name("nul")
        ('P 01', '_.._etc_passwd', '_nul')
    """
    text = FORBIDDEN.sub("_", name).strip(" .") or "unnamed"
    text = f"_{text}" if RESERVED.fullmatch(text) else text
    if len(text.encode()) <= MAX_BYTES:
        return text
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    start = text.encode()[: MAX_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{start}-{digest}"


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
