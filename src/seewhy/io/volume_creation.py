"""Whether something lies where an output shall be, whose it is, and what to say when a store refuses a write."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from typing import Any

from seewhy.io.atomic import TEMPORARY_PREFIX
from seewhy.io.volume_counters import Counters
from seewhy.io.volume_layout import MARK
from seewhy.io.volume_store import local_folder, open_store

__all__ = ["is_there", "our_mark", "remove", "remove_unfinished", "unwritable"]


def is_there(path: str, options: Mapping[str, Any] | None) -> bool:
    """Whether a file, a folder that is not empty, or a remote zarr store lies at a path."""
    folder = local_folder(path)
    if folder is not None:
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    from zarr.core.sync import sync

    store = open_store(path, read_only=True, counters=Counters(), options=options)
    return any(sync(store.exists(name)) for name in ("zarr.json", ".zgroup", ".zarray"))


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
    """Delete a store, whosesoever it is; a local one is gone from its path at once, or not at all."""
    folder = local_folder(path)
    if folder is not None:
        doomed = folder.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{folder.name}")
        folder.rename(doomed)
        shutil.rmtree(doomed)
        return
    from zarr.core.sync import sync

    sync(open_store(path, read_only=False, counters=Counters(), options=options).clear())


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
