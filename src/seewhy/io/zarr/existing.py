"""Recognise and remove what exists at the path of an output, and state errors of writing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from seewhy.errors import DataError
from seewhy.io.atomic import temporary_beside
from seewhy.io.zarr.layout import MARK
from seewhy.io.zarr.store import METADATA, CountedStore, Counters, local_folder, open_store

__all__ = ["has_array", "is_there", "read_mark", "remove", "remove_unfinished", "writing"]


def is_there(path: str, options: Mapping[str, Any] | None) -> bool:
    """Whether a path holds a file, a folder that is not empty, or a remote zarr store that is not empty."""
    folder = local_folder(path)
    if folder is not None:
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if _holds(path, ("zarr.json", ".zarray"), options):
        return True
    from zarr.core.sync import sync

    # A lone group of zarr v2 is what a kill leaves of a store that was being created.
    return _holds(path, (".zgroup",), options) and sync(
        _names(open_store(path, read_only=True, counters=Counters(), options=options))
    ) != [".zgroup"]


def has_array(path: str, array: str, options: Mapping[str, Any] | None) -> bool:
    """Whether an output of seewhy has its array: a kill can leave a remote one without it, never a local one.

    Args:
        path: of the store.
        array: path of level 0 inside it.
        options: of the store.
    """
    return local_folder(path) is not None or _holds(path, (f"{array}/zarr.json", f"{array}/.zarray"), options)


def read_mark(path: str, options: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Mark in the root of an output of seewhy; None if the path holds anything else."""
    import zarr

    try:
        store = open_store(path, read_only=True, counters=Counters(), options=options)
        mark = zarr.open_group(store=store, mode="r").attrs.get(MARK)
    except Exception:  # anything unreadable was not written by seewhy
        return None
    return mark if isinstance(mark, Mapping) and "layout" in mark else None


def remove(path: str, options: Mapping[str, Any] | None) -> None:
    """Delete a store, even one that seewhy did not create.

    A local store disappears from its path at once, or not at all. Of a remote store the root's metadata are deleted
    last, so that after a kill it is still recognised and can be removed again.
    """
    folder = local_folder(path)
    if folder is not None:
        doomed = temporary_beside(folder)
        folder.rename(doomed)
        shutil.rmtree(doomed)
        return
    from zarr.core.sync import sync

    sync(_remove_all(open_store(path, read_only=False, counters=Counters(), options=options)))


def remove_unfinished(path: str) -> None:
    """Delete temporary files of processes that were killed while writing."""
    folder = local_folder(path)
    for file in folder.rglob("*.partial") if folder is not None else ():
        file.unlink(missing_ok=True)


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn the errors of writing, of which every store and codec has its own, into one.

    Raises:
        DataError: the block has raised any error.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[:1] or type(error).__name__
        reason = reason if isinstance(reason, str) else reason[0]
        raise DataError(
            f"{path} cannot be written ({reason}); what was written is kept: fix the cause and start again to continue"
        ) from error


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
