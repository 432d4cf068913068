"""Unpack uploaded zip files of zarr stores, within limits and without leaving their folder."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from seewhy.errors import DataError
from seewhy.io.checks.sizes import format_bytes

__all__ = ["unpack_store"]

MOST_FILES = 100_000
"""Files of a store."""
DIRECTORY_BYTES = 128
"""Bytes of the list of an archive for each file, on average."""
END = struct.Struct("<4s4H2LH")
"""The end of a zip file: signature, disks, files, bytes of the list, its place, bytes of a comment."""
SIGNATURE, LARGE = b"PK\x05\x06", b"PK\x06\x07"
METADATA = ("zarr.json", ".zarray", ".zgroup")
STEP = 1 << 20


def unpack_store(path: Path, target: Path, *, most_bytes: int) -> Path:
    """Unpack a zarr store.

    Args:
        path: a zip file, whose top or only folder is the store.
        target: folder to create.
        most_bytes: of all files together, counted while they are unpacked.

    Returns:
        The folder of the store in `target`.

    Raises:
        DataError: not a zip file, damaged, encrypted, too large, no store in it, or files that would lie outside.
    """
    _check_list(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _unpack(archive, path, target, most_bytes)
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); zip the folder of the store again") from error
    return _find_store(path, target)


def _check_list(path: Path) -> None:
    """Check the number of files that the end of the archive states, before the list of them is read."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - (1 << 16) - END.size)
        file.seek(start)
        tail = file.read()
    at = tail.rfind(SIGNATURE)
    if at < 0 or at + END.size > len(tail):
        raise DataError(f"{path} is not a zip file; zip the folder of the store, e.g. zip -r scan.zarr.zip scan.zarr")
    files, length = END.unpack(tail[at : at + END.size])[4:6]
    if LARGE in tail[max(0, at - 64) : at] or files > MOST_FILES or length > MOST_FILES * DIRECTORY_BYTES:
        raise DataError(
            f"{path} holds too many files; expected at most {MOST_FILES}: store larger chunks or shards, or predict it "
            "with predict.py"
        )


def _unpack(archive: zipfile.ZipFile, path: Path, target: Path, most_bytes: int) -> None:
    left = most_bytes
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        kind = stat.S_IFMT(entry.external_attr >> 16)
        wrong = not parts or any(part in ("..", "/") or "\\" in part or "\0" in part for part in parts)
        if wrong or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{path} holds {entry.filename[:80]!r}, which is not a plain file in its folder")
        if entry.is_dir():
            continue
        if entry.flag_bits & 1:
            raise DataError(f"{path} is encrypted; zip it without a password")
        place = target.joinpath(*parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, place.open("xb") as plain:
            while piece := packed.read(min(STEP, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise DataError(
                        f"{path} unpacks to more than {format_bytes(most_bytes)}; send a smaller volume, or start the "
                        "server with a larger --max-unpacked"
                    )
                plain.write(piece)


def _find_store(path: Path, target: Path) -> Path:
    """The store: the folder itself, or the only folder in it."""
    for _ in range(3):
        if any((target / name).is_file() for name in METADATA):
            return target
        inside = [entry for entry in target.iterdir() if entry.name != "__MACOSX"] if target.is_dir() else []
        if len(inside) != 1 or not inside[0].is_dir():
            break
        target = inside[0]
    raise DataError(f"{path} holds no zarr store: no {', '.join(METADATA)} at its top or in its only folder")
