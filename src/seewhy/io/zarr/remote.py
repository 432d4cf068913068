"""Files that cannot be read in parts over a network, copied to a temporary file first."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.zarr.store import remote_extra

__all__ = ["local_copy", "temporary_folder"]

MARKS = ("ETag", "etag", "Content-MD5", "md5Hash", "Last-Modified", "LastModified", "last_modified", "mtime", "created")
"""Names by which file systems of fsspec tell which version of a file is there."""
AFTER_CHILDREN = -10
"""Finalizers below 0 run when processes that were started have ended."""
COPIES: dict[tuple[str, str], str] = {}
"""Address and version of a remote file → its copy."""


def local_copy(address: str, options: Mapping[str, Any] | None = None) -> str:
    """Copy one remote file, or find the copy of this version of it; it is removed when the process ends.

    Args:
        address: for fsspec, e.g. `https://…/scan.nii.gz`.
        options: as for `open_store`.

    Returns:
        Path of the copy, which has the same name.

    Raises:
        DataError: no such file, or failures that outlast the retries.
    """
    options = dict(options or {})
    retries, backoff = int(options.pop("retries", 5)), float(options.pop("backoff", 0.2))
    with remote_extra(address):
        import fsspec

        files, inside = fsspec.url_to_fs(address, **options)
    version = _version(files, inside)
    known = COPIES.get((address, version or ""))
    if version is not None and known is not None and Path(known).exists():
        return known
    target = temporary_folder() / Path(address.split("?")[0]).name
    for attempt in range(retries + 1):
        try:
            files.get_file(inside, str(target))
            if version is not None:
                COPIES[address, version] = str(target)
            return str(target)
        except FileNotFoundError as error:
            raise DataError(f"{address} does not exist") from error
        except Exception as error:  # every file system of fsspec has its own
            if attempt == retries:
                raise DataError(f"{address} cannot be copied, however often tried ({error})") from error
        time.sleep(backoff * 2**attempt)
    raise AssertionError


def temporary_folder() -> Path:
    """A folder that is removed when this process ends, be it the first or one of `multiprocessing`.

    A process that was forked from it leaves the folder alone. Such processes skip `atexit`, hence a finalizer.
    """
    folder = Path(tempfile.mkdtemp(prefix="seewhy-"))
    Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=AFTER_CHILDREN)
    return folder


def _version(files: Any, inside: str) -> str | None:
    """What tells one state of a remote file from another; None where the server says nothing of the kind."""
    try:
        facts = files.info(inside)
    except Exception:  # whether the file is there is seen when it is copied
        return None
    marks = [f"{mark}={facts[mark]}" for mark in MARKS if facts.get(mark) is not None]
    return f"{facts.get('size')} {' '.join(marks)}" if marks else None
