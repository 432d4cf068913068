"""Read `split.json`, the patients of each part of a split."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from seewhy.io.documents import read_json

__all__ = ["StoredSplit", "read_split_file"]


class StoredSplit(TypedDict):
    """Contents of `split.json`; patients may be numbers in files that were written by hand."""

    train: list[str | int]
    val: list[str | int]
    test: list[str | int]
    hash: NotRequired[str]


def read_split_file(path: str | Path) -> tuple[dict[str, list[str]], str | None]:
    """Read a split.

    Returns:
        Part → patients, and the hash of the split; None if it was deleted.

    Raises:
        DataError: the file is missing, not JSON, or does not hold the lists train, val and test.
    """
    stored = read_json(path, StoredSplit)
    return {part: [str(patient) for patient in stored[part]] for part in ("train", "val", "test")}, stored.get("hash")
