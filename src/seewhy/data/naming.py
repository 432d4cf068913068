"""How the files of slice data sets are named, and what a name tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seewhy.errors import ConfigError

__all__ = ["BRATS", "LASC", "Naming"]


@dataclass(frozen=True)
class Naming:
    """How files of a data set are named.

    Attributes:
        pattern: regular expression for the whole file name with the groups `patient` and `label`, and
            `slice` where the name has one.
        example: a good name, for messages.
    """

    pattern: str
    example: str

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise ConfigError(f"data.pattern={self.pattern!r} is no regular expression: {error}") from error
        missing = [name for name in ("patient", "label") if name not in groups]
        if missing:
            raise ConfigError(
                f"data.pattern={self.pattern!r} lacks the group(s) {', '.join(missing)}; "
                "name them as in (?P<patient>.+)_(?P<slice>\\d+)_(?P<label>\\d+)\\.npy"
            )


BRATS = Naming(r"BRATS_(?P<patient>.+)_(?P<slice>\d+)_(?P<label>\d+)\.npy", "BRATS_001_77_1.npy")
"""`BRATS_<id>_<slice>_<label>.npy`; the id may itself hold underscores."""
LASC = Naming(r"(?P<patient>.+?)(?:_(?P<slice>\d+))?_(?P<label>\d+)\.npy", "patient7_012_1.npy")
"""`<name>_<label>.npy`, where a number at the end of the name is the slice."""
