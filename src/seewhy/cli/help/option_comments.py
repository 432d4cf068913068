"""Options of files below `conf/` with their defaults and the comments that explain them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OptionComment", "read_option_comments", "read_purpose"]

LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?: (?P<value>[^#]*?))?(?: +# (?P<comment>.*))?")


@dataclass(frozen=True, kw_only=True)
class OptionComment:
    """One key of a configuration file.

    Attributes:
        key: with the keys around it, e.g. `store.dtype`.
        value: default as text; empty for a key with further keys.
        comment: text after the value; empty if there is none.
    """

    key: str
    value: str
    comment: str


def read_purpose(path: Path) -> list[str]:
    """Read the comment lines at the beginning of a configuration file.

    Example:
        >>> from seewhy.run.folder import conf_dir
        >>> read_purpose(conf_dir() / "explain.yaml")[0].split(":")[0]
        'Explain the predictions of a finished run'
    """
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("# @package"):
            if lines or not line.startswith("#"):
                break
            continue
        lines.append(line[2:])
    return lines


def read_option_comments(path: Path) -> list[OptionComment]:
    """Read the keys of a configuration file in their order, without its defaults list.

    Example:
        >>> from seewhy.run.folder import conf_dir
        >>> [one.key for one in read_option_comments(conf_dir() / "volume/default.yaml")][-2:]
        ['job.keep_logits', 'job.estimate']
    """
    found: list[OptionComment] = []
    around: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        depth = len(match["indent"])
        around = [one for one in around if one[0] < depth]
        key = ".".join([*(name for _, name in around), match["key"]])
        around.append((depth, match["key"]))
        if not key.startswith("defaults"):
            found.append(OptionComment(key=key, value=(match["value"] or "").strip(), comment=match["comment"] or ""))
    return found
