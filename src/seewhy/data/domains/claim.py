"""Whose a store is: the source folders that it was prepared from, so that two data sets never share one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from seewhy.data.domains.store import COUNTERPARTS, DOMAINS, RECORD
from seewhy.errors import DataError
from seewhy.io.atomic import TEMPORARY_PREFIX, write_json

__all__ = ["SOURCES", "STORE", "claim_store"]

STORE = "domains.json"
"""In the store's folder once all subjects are there."""
SOURCES = "sources.json"
"""In the store's folder from the start: where it is, and which folders it is of."""


def claim_store(store: Path, folders: Mapping[str, Path]) -> None:
    """Make a store's folder, or go on with one that is of the same source folders.

    Subjects of two sources may have the same names, and a run that reads those of one would go on with the other's.
    A store that was moved or copied (with its data set, to a faster disk, say) is of whoever claims it next; so is
    one whose source is no longer there.

    Args:
        store: its folder.
        folders: part of the store → source folder.

    Raises:
        DataError: it cannot be made, holds other files than prepared subjects, or is of other folders.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{store} cannot be made ({error.strerror}); set data.cache_dir to a folder that can be written"
        ) from error
    if strange := _strange(store):
        raise DataError(f"{store} holds other files than prepared subjects, e.g. {strange[0]}; choose another folder")
    known = _sources(store)
    for part, folder in folders.items():
        if part in known and Path(known[part]).is_dir() and not _same(known[part], folder):
            raise DataError(
                f"{store} holds the subjects of {known[part]} as domain {part}, not those of {folder}; set "
                "data.cache_dir to a folder of its own"
            )
    record = {**known, **{part: str(folder) for part, folder in folders.items()}}
    if record != known:
        write_json(store / SOURCES, {"store": str(store.absolute()), "folders": record})


def _strange(store: Path) -> list[Path]:
    """Files in a store's folder that are none of a store."""
    places = [store, *(store / part for part in (*DOMAINS, COUNTERPARTS))]
    places += [store / COUNTERPARTS / domain for domain in DOMAINS]
    return [
        path
        for place in places
        if place.is_dir()
        for path in place.iterdir()
        if not (path in places or path.name in (STORE, SOURCES) or path.name.startswith(TEMPORARY_PREFIX))
        and not (path / RECORD).is_file()
    ]


def _sources(store: Path) -> dict[str, str]:
    """Part of the store → the folder that it was prepared from; nothing where the store itself came from elsewhere."""
    try:
        found = json.loads((store / SOURCES).read_text(encoding="utf-8"))
        folders = {str(part): str(folder) for part, folder in found["folders"].items()}
        return folders if _same(found["store"], store) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths, by whatever links, lead to one folder."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
