"""Files that cannot be read in parts over a network, copied to a temporary file first."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.volume_store import remote_extra

__all__ = ["local_copy", "temporary_folder"]


def local_copy(address: str, options: Mapping[str, Any] | None = None) -> str:
    """Copy one remote file; the copy is removed when the process ends.

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
    target = temporary_folder() / Path(address.split("?")[0]).name
    for attempt in range(retries + 1):
        try:
            files.get_file(inside, str(target))
            return str(target)
        except FileNotFoundError as error:
            raise DataError(f"{address} does not exist") from error
        except Exception as error:  # every file system of fsspec has its own
            if attempt == retries:
                raise DataError(f"{address} cannot be copied, however often tried ({error})") from error
        time.sleep(backoff * 2**attempt)
    raise AssertionError


def temporary_folder() -> Path:
    """A folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="seewhy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
