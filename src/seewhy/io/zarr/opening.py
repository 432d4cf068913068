"""Opening a volume, whatever it is stored in and wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.errors import ConfigError, DataError
from seewhy.io.nifti import NIFTI_SUFFIXES
from seewhy.io.zarr.arrays import ArraySource, NpySource
from seewhy.io.zarr.nifti import NiftiSource
from seewhy.io.zarr.remote import local_copy
from seewhy.io.zarr.source import Box, VolumeSource, box_shape
from seewhy.io.zarr.store import is_remote
from seewhy.io.zarr.tiff import TIFF_SUFFIXES, TiffSource
from seewhy.io.zarr.zarr_source import ZarrSource

__all__ = ["ArraySource", "Box", "VolumeSource", "box_shape", "open_source"]


def open_source(
    path: str | Path,
    *,
    level: int | str | None = None,
    channels: Sequence[int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> VolumeSource:
    """Open a volume for reading in boxes; the kind follows from the name.

    Args:
        path: `.npy`, `.nii`, `.nii.gz`, `.tif(f)` (several pages), a folder of `.tif(f)` planes, or a zarr array
            or group of any name; local, or an address for fsspec (`https://…`, `s3://…`). Zarr is read in place;
            other remote files are copied to a temporary one first.
        level: of an OME-NGFF pyramid, by position (0 is the finest) or name; None takes the finest.
        channels: which channels to give; None gives all.
        options: `retries` (5), `backoff` in seconds (0.2); all else goes to fsspec's file system.

    Raises:
        ConfigError: no such level or channel.
        DataError: nothing there, damaged, no volume, or no numbers.
    """
    address = str(path)
    plain = address.split("?")[0].rstrip("/").lower()
    if plain.endswith((".npy", *NIFTI_SUFFIXES, *TIFF_SUFFIXES)) or _folder_of_planes(address):
        if level is not None:
            raise ConfigError(f"{address} has no levels; leave level={level!r} out")
        kind = NpySource if plain.endswith(".npy") else NiftiSource if plain.endswith(NIFTI_SUFFIXES) else TiffSource
        if is_remote(address):
            return kind(local_copy(address, options), channels=channels, origin=address)
        local = address.removeprefix("file://")
        if not Path(local).exists():
            raise DataError(f"{address} does not exist")
        return kind(local, channels=channels)
    return ZarrSource(address, level=level, channels=channels, options=options)


def _folder_of_planes(path: str) -> bool:
    """Whether a local folder holds TIFF files and is no zarr store."""
    folder = Path(path.removeprefix("file://"))
    if is_remote(path) or not folder.is_dir():
        return False
    if any((folder / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return False
    return any(file.suffix.lower() in TIFF_SUFFIXES for file in folder.iterdir())
