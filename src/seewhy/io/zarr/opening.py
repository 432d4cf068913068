"""Open a volume in any supported format: local, on a web server, or in an object store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import temporary_folder
from seewhy.io.checks.read_errors import recognize, suggest_conversion
from seewhy.io.checks.sizes import check_regular_file
from seewhy.io.scans.scan import HEADERED_SUFFIXES, SCAN_SUFFIXES
from seewhy.io.tiff import TIFF_SUFFIXES
from seewhy.io.zarr.metadata import is_zarr, list_nested
from seewhy.io.zarr.source import VolumeSource
from seewhy.io.zarr.store import guard_remote, is_remote

__all__ = ["local_copy", "open_source"]

READ = "seewhy reads zarr, .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npy, .tif, and a folder of .tif planes"
VERSION_KEYS = (
    *("ETag", "etag", "Content-MD5", "md5Hash", "Last-Modified", "LastModified", "last_modified", "mtime", "created"),
)
"""Keys under which fsspec's file systems report the version of a file."""
COPIES: dict[tuple[str, str], str] = {}
"""Address and version of a remote file → its copy."""


def open_source(
    path: str | Path,
    *,
    level: int | str | None = None,
    channels: Sequence[int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> VolumeSource:
    """Open a volume for reading in boxes; the format follows from the name.

    Args:
        path: `.npy`, `.nii`, `.nii.gz`, `.nrrd`, `.nhdr`, `.mha`, `.mhd`, `.tif(f)` (several pages), a folder of
            `.tif(f)` planes, or a zarr array or group of any name; local, or an address for fsspec (`https://…`,
            `s3://…`). Zarr is read in place; other remote files are copied to a temporary file first, so the two
            files of `.nhdr` and `.mhd` have to be local.
        level: level of an OME-NGFF pyramid, by position (0 is the finest) or name; None takes the finest.
        channels: channels to read; None reads all.
        options: `retries` (5), `backoff` in seconds (0.2); all others are passed to fsspec's file system.

    Raises:
        ConfigError: no such level or channel.
        DataError: no file, a damaged file, not a volume, or not numbers.

    Example:
        >>> import numpy as np
        >>> np.save("scan.npy", np.arange(60).reshape(3, 4, 5))
        >>> source = open_source("scan.npy")
        >>> source.shape
        (1, 3, 4, 5)
        >>> source.read((slice(0, 1), slice(0, 2), slice(0, 3)))
        array([[[[0, 1, 2],
                 [5, 6, 7]]]])
    """
    address = str(path)
    name = address.split("?")[0].rstrip("/").lower()
    if not (name.endswith((".npy", *SCAN_SUFFIXES, *TIFF_SUFFIXES)) or _is_folder_of_planes(address)):
        if not is_remote(address):
            _check_local_store(address)
        from seewhy.io.zarr.zarr_source import ZarrSource

        return ZarrSource(address, level=level, channels=channels, options=options)
    if level is not None:
        raise ConfigError(f"{address} has no levels; remove level={level!r}")
    origin = address if is_remote(address) else None
    local = local_copy(address, options) if origin else address.removeprefix("file://")
    if not Path(local).is_dir():
        check_regular_file(local)
    if name.endswith((".npy", *SCAN_SUFFIXES)):
        from seewhy.io.zarr.mapped import NiftiSource, NpySource, ScanSource

        kind = ScanSource if name.endswith(HEADERED_SUFFIXES) else NpySource if name.endswith(".npy") else NiftiSource
        return kind(local, channels=channels, origin=origin)
    from seewhy.io.zarr.tiff import TiffSource

    return TiffSource(local, channels=channels, origin=origin)


def _check_local_store(address: str) -> None:
    """Refuse a local path that is not a zarr store, and name what it seems to be.

    Raises:
        DataError: nothing, a file of an unknown format, or a folder without zarr metadata.
    """
    path = Path(address.removeprefix("file://"))
    if is_zarr(path):
        return
    if not path.exists():
        raise DataError(f"{address} does not exist; {READ}")
    nested = list_nested(path) if path.is_dir() else []
    if nested:
        raise DataError(f"{address} holds no zarr array or group itself; give one of those inside: {', '.join(nested)}")
    kind = recognize(path)
    held = "is a folder without zarr metadata" if path.is_dir() and kind is None else f"seems to be {kind}"
    held = "has an unknown format" if path.is_file() and kind is None else held
    raise DataError(f"{address} {held}; {READ}; {suggest_conversion(kind)}")


def _is_folder_of_planes(path: str) -> bool:
    """Whether a local folder holds TIFF files and is not a zarr store."""
    folder = Path(path.removeprefix("file://"))
    if is_remote(path) or not folder.is_dir() or is_zarr(folder):
        return False
    return any(file.suffix.lower() in TIFF_SUFFIXES and file.name[0] != "." for file in folder.iterdir())


def local_copy(address: str, options: Mapping[str, Any] | None = None) -> str:
    """Copy a remote file that cannot be read in parts, or return the existing copy of this version of it.

    The copy is removed when the process ends.

    Args:
        address: for fsspec, e.g. `https://…/scan.nii.gz`.
        options: as for `open_source`.

    Returns:
        Path of the copy, which has the same name.

    Raises:
        DataError: no such file, or all retries failed.
    """
    options = dict(options or {})
    retries, backoff = int(options.pop("retries", 5)), float(options.pop("backoff", 0.2))
    with guard_remote(address):
        import fsspec

        files, inside = fsspec.url_to_fs(address, **options)
    version = _version(files, inside)
    existing = COPIES.get((address, version or ""))
    if version is not None and existing is not None and Path(existing).exists():
        return existing
    target = temporary_folder() / Path(address.split("?")[0]).name
    for attempt in range(retries + 1):
        try:
            files.get_file(inside, str(target))
            break
        except FileNotFoundError as error:
            raise DataError(f"{address} does not exist") from error
        except Exception as error:  # each of fsspec's file systems has its own errors
            if attempt == retries:
                raise DataError(f"{address} cannot be copied after {retries} retries ({error})") from error
        time.sleep(backoff * 2**attempt)
    if version is not None:
        COPIES[address, version] = str(target)
    return str(target)


def _version(files: Any, inside: str) -> str | None:
    """Version of a remote file; None if the server reports none."""
    try:
        facts = files.info(inside)
    except Exception:  # a missing file is reported when it is copied
        return None
    versions = [f"{key}={facts[key]}" for key in VERSION_KEYS if facts.get(key) is not None]
    return f"{facts.get('size')} {' '.join(versions)}" if versions else None
