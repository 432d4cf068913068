"""Whether something lies where an output shall be, whose it is, and what to say when a store refuses a write."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from typing import Any

from seewhy.io.atomic import TEMPORARY_PREFIX
from seewhy.io.zarr.layout import MARK
from seewhy.io.zarr.store import METADATA, CountedStore, Counters, local_folder, open_store

__all__ = ["is_filled", "is_there", "our_mark", "remove", "remove_unfinished", "unwritable"]


def is_there(path: str, options: Mapping[str, Any] | None) -> bool:
    """Whether a file, a folder that is not empty, or a remote zarr store that holds anything lies at a path."""
    folder = local_folder(path)
    if folder is not None:
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if _holds(path, ("zarr.json", ".zarray"), options):
        return True
    from zarr.core.sync import sync

    # A group of zarr v2 alone is what a kill leaves of one that was being made.
    return _holds(path, (".zgroup",), options) and sync(
        _names(open_store(path, read_only=True, counters=Counters(), options=options))
    ) != [".zgroup"]


def is_filled(path: str, array: str, options: Mapping[str, Any] | None) -> bool:
    """Whether an output of ours has its array; a remote one may have been cut off before, a local one never is.

    Args:
        path: of the store.
        array: path of level 0 inside it.
        options: of the store.
    """
    return local_folder(path) is not None or _holds(path, (f"{array}/zarr.json", f"{array}/.zarray"), options)


def our_mark(path: str, options: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What we wrote into the root of an output of ours; None for whatever else lies there."""
    import zarr

    try:
        store = open_store(path, read_only=True, counters=Counters(), options=options)
        mark = zarr.open_group(store=store, mode="r").attrs.get(MARK)
    except Exception:  # whatever it is, it is no output of ours
        return None
    return mark if isinstance(mark, Mapping) and "layout" in mark else None


def remove(path: str, options: Mapping[str, Any] | None) -> None:
    """Delete a store, whosesoever it is.

    A local one is gone from its path at once, or not at all. Of a remote one the root's metadata go last: cut off, it
    is still known for what it is, and can be removed again.
    """
    folder = local_folder(path)
    if folder is not None:
        doomed = folder.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{folder.name}")
        folder.rename(doomed)
        shutil.rmtree(doomed)
        return
    from zarr.core.sync import sync

    sync(_remove_all(open_store(path, read_only=False, counters=Counters(), options=options)))


def remove_unfinished(path: str) -> None:
    """Delete what processes that were killed while they wrote have left of their temporary files."""
    folder = local_folder(path)
    for file in folder.rglob("*.partial") if folder is not None else ():
        file.unlink(missing_ok=True)


def unwritable(path: str, error: Exception) -> str:
    """What to say when a store refuses a write."""
    reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[:1] or type(error).__name__
    reason = reason if isinstance(reason, str) else reason[0]
    return f"{path} cannot be written ({reason}); what is written is kept: mend it and start again to go on"


def _holds(path: str, names: tuple[str, ...], options: Mapping[str, Any] | None) -> bool:
    from zarr.core.sync import sync

    store = open_store(path, read_only=True, counters=Counters(), options=options)
    return any(sync(store.exists(name)) for name in names)


async def _remove_all(store: CountedStore) -> None:
    names = await _names(store)
    for name in names:
        if name not in METADATA:
            await store.delete_dir(name)
    for name in names:
        if name in METADATA:
            await store.delete(name)


async def _names(store: CountedStore) -> list[str]:
    return [name async for name in store.list_dir("")]
