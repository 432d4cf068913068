"""Read `dataset.json`, the description of a data set: how it was made, and how its pictures are turned upright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.documents import read_json
from seewhy.io.geometry import Display

__all__ = ["read_displays", "read_info"]


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
