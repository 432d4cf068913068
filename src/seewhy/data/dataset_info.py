"""Read the records of a data set: `dataset.json` (how it was made, and how pictures are turned), and `split.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.io.documents import read_json
from seewhy.io.geometry import Display

__all__ = ["StoredSplit", "read_displays", "read_info", "read_split_file"]


def read_info(path: Path) -> dict[str, Any]:
    """Contents of `dataset.json`; an empty dict if there is no such file.

    Raises:
        DataError: the file is not a JSON object.
    """
    return dict(read_json(path)) if path.exists() else {}


def read_displays(info: dict[str, Any], path: Path) -> dict[str | None, Display]:
    """How pictures are turned upright, by patient; the key None is for all others.

    Args:
        info: with the keys `display` and `display_exceptions`, both optional.
        path: the file they were read from, for messages.
    """
    exceptions = info.get("display_exceptions", {})
    if not isinstance(exceptions, dict):
        raise DataError(f"{path}: display_exceptions is {exceptions!r}; expected patients with their display")
    records: dict[str | None, Any] = {None: info.get("display", {}), **exceptions}
    return {patient: Display.from_record(record, where=str(path)) for patient, record in records.items()}


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
