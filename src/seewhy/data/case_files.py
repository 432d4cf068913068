"""Files of one case that belongs to no data set, e.g. of a new patient, and the step that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seewhy.errors import DataError

__all__ = ["CaseFiles", "Reading"]


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """Files of a case, for `BaseDataModule.read_files`.

    Attributes:
        id: safe as a file name.
        files: input → its files, in order; an empty tuple for an input that is missing.
        domain: `a` or `b`, for data of two scanners; None for others.
    """

    id: str
    files: Mapping[str, tuple[Path, ...]]
    domain: str | None = None

    def only_file(self, name: str) -> Path:
        """The one file of an input.

        Raises:
            DataError: it has none, or several.

        Example:
            >>> CaseFiles(id="p1", files={"image": (Path("p1.nii.gz"),)}).only_file("image").name
            'p1.nii.gz'
        """
        files = self.files.get(name, ())
        if len(files) != 1:
            raise DataError(f"case {self.id} has {len(files)} files of {name!r}; expected one")
        return files[0]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The step that reads a case.

    Attributes:
        step: a step of `seewhy_run.steps`.
        inputs: names of a case's files, in order.
        optional: whether a case may lack some of them.
        size: spatial size of every image, [H, W] or [D, H, W]; None where it differs from case to case.
        domain: whose scans are read, for models that translate between two.
    """

    step: Any
    inputs: tuple[str, ...]
    optional: bool = False
    size: tuple[int, ...] | None = None
    domain: str = ""
