"""Store the files of a request in a folder of their own, with names of our choice and within limits."""

from __future__ import annotations

import math
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from seewhy.errors import DataError, nearest
from seewhy.io.checks.sizes import format_bytes
from seewhy.io.image import PICTURE_SUFFIXES, image_shape
from seewhy.io.names import safe_name
from seewhy.io.npy import npy_shape
from seewhy.io.scans.scan import is_scan, open_scan
from seewhy.io.zarr.metadata import NODES, is_zarr
from seewhy.io.zarr.opening import open_source
from seewhy.run.serving.guard import RequestError

if TYPE_CHECKING:
    from starlette.datastructures import FormData, UploadFile

__all__ = ["NO_METHOD", "STORE", "TEXTS", "CaseRules", "SentCase", "store_case", "unpack_store"]

NO_METHOD = "none"
"""Word for no explanation."""
STORE = ".zarr.zip"
"""Ending of an uploaded zarr store."""
TEXTS = ("name", "domain", "method", "target")
"""Fields of a request that are text."""
MOST_LETTERS = 200
MOST_SLICES = 1024
"""Files of one patient."""
WRONG_TYPE, TOO_LARGE = 415, 413
MOST_FILES = 100_000
"""Files of a store."""
DIRECTORY_BYTES = 128
"""Bytes of the list of an archive for each file, on average."""
END = struct.Struct("<4s4H2LH")
"""The end of a zip file: signature, disks, files, bytes of the list, its place, bytes of a comment."""
SIGNATURE, LARGE = b"PK\x05\x06", b"PK\x06\x07"
STEP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CaseRules:
    """What a case of a run consists of.

    Attributes:
        inputs: names of its images.
        suffixes: endings of their files.
        several: whether an input may be several files, its slices.
        domains: scanners to choose from; empty for data of one kind.
        methods: explanation methods to choose from.
        usual: the method that is taken if a request names none; `none` explains nothing.
        targets: classes that can be explained.
        of_volumes: whether files are volumes of any store.
    """

    inputs: tuple[str, ...]
    suffixes: tuple[str, ...]
    several: bool = False
    domains: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    usual: str = NO_METHOD
    targets: tuple[str, ...] = ()
    of_volumes: bool = False


@dataclass(frozen=True, kw_only=True)
class SentCase:
    """The case of a request.

    Attributes:
        files: input → its files.
        name: of the case; None takes the name of the first file.
        domain: its scanner.
        method: explanation method; None explains nothing.
        target: class to explain; None is the predicted one.
    """

    files: dict[str, tuple[Path, ...]]
    name: str | None = None
    domain: str | None = None
    method: str | None = None
    target: str | None = None


def store_case(form: FormData, folder: Path, rules: CaseRules, *, most_unpacked: int) -> SentCase:
    """Write the files of a request into a folder, and check its fields.

    Args:
        form: of the request.
        folder: an existing folder for this request alone.
        rules: of the run.
        most_unpacked: bytes of the case in memory, as float32.

    Raises:
        RequestError: a field or a file that this run does not take.
        DataError: a file whose header cannot be read.
    """
    texts: dict[str, str] = {}
    files: dict[str, list[Path]] = {}
    for field, value in form.multi_items():
        if field in TEXTS:
            texts[field] = _check_text(field, value, texts)
        elif field not in rules.inputs:
            known = [*rules.inputs, *TEXTS]
            raise RequestError(f"unknown field {field[:80]!r}; {nearest(field, known)}")
        elif isinstance(value, str):
            raise RequestError(
                f"field {field!r} is text; expected a file, e.g. curl -F {field}=@scan{rules.suffixes[0]}"
            )
        elif value.filename or value.size:
            own = files.setdefault(field, [])
            own.append(_store_file(field, value, folder / str(len(files)), rules, own, most_unpacked))
    if not files:
        raise RequestError(f"no file was sent; expected {' and '.join(rules.inputs)} with {', '.join(rules.suffixes)}")
    _check_size([path for own in files.values() for path in own], rules, most_unpacked)
    return SentCase(files={field: tuple(own) for field, own in files.items()}, **_check_choices(texts, rules))


def _check_text(field: str, value: UploadFile | str, seen: dict[str, str]) -> str:
    if not isinstance(value, str):
        raise RequestError(f"field {field!r} is a file; expected text")
    if field in seen:
        raise RequestError(f"field {field!r} was sent twice; send it once")
    if len(value) > MOST_LETTERS or not value.isprintable():
        raise RequestError(f"field {field!r} must be plain text of at most {MOST_LETTERS} letters")
    return value.strip()


def _check_choices(texts: dict[str, str], rules: CaseRules) -> dict[str, str | None]:
    """The text fields, checked against what the run offers."""
    for field, known in (("domain", rules.domains), ("target", rules.targets)):
        if texts.get(field) and texts[field] not in known:
            found = f"{field}={texts[field]!r} is unknown; {nearest(texts[field], known)}"
            raise RequestError(found if known else f"this model has no {field} to choose; leave the field out")
    if rules.domains and not texts.get("domain"):
        raise RequestError(f"which scanner made these images? Send domain={' or domain='.join(rules.domains)}")
    method = texts.get("method") or rules.usual
    if method != NO_METHOD and method not in rules.methods:
        raise RequestError(f"method={method!r} is not offered; {nearest(method, [*rules.methods, NO_METHOD])}")
    return {
        "name": safe_name(texts["name"]) if texts.get("name") else None,
        "domain": texts.get("domain") or None,
        "method": None if method == NO_METHOD else method,
        "target": texts.get("target") or None,
    }


def _store_file(
    field: str, file: UploadFile, folder: Path, rules: CaseRules, others: Sequence[Path], most_unpacked: int
) -> Path:
    """Write one file; the client's name gives only the last part of the path, and is made safe."""
    if others and not rules.several:
        raise RequestError(f"several files were sent for {field!r}; expected one")
    if len(others) >= MOST_SLICES:
        raise RequestError(f"more than {MOST_SLICES} files were sent for {field!r}; send the slices of one patient")
    given = (file.filename or "").replace("\\", "/").rpartition("/")[2]
    endings = sorted(rules.suffixes, key=len, reverse=True)
    suffix = next((ending for ending in endings if given.lower().endswith(ending)), None)
    if suffix is None:
        raise RequestError(f"{given[:100]!r} for {field!r} has an unknown ending; expected {', '.join(rules.suffixes)}",
                      status=WRONG_TYPE)  # fmt: skip
    stem = given[: -len(suffix)]
    path = folder / f"{safe_name(stem) if stem else field}{given[-len(suffix) :]}"
    if any(path.name.casefold() == other.name.casefold() for other in others):
        raise RequestError(f"two files for {field!r} are named {path.name!r}; rename one")
    if not file.size:
        raise RequestError(f"{path.name} for {field!r} is empty (0 bytes); choose it again, or copy it again")
    folder.mkdir(mode=0o700, exist_ok=True)
    with path.open("xb") as target:
        shutil.copyfileobj(file.file, target, 1 << 20)
    if suffix != STORE:
        return path
    store = folder / f"{path.name[: -len(STORE)]}.zarr"
    unpack_store(path, folder / "unpacked", most_bytes=most_unpacked).rename(store)
    return store


def _check_size(paths: Sequence[Path], rules: CaseRules, most: int) -> None:
    """Refuse a case whose headers announce more values than it may have, before values are read."""
    needed = 0
    for path in paths:
        needed += 4 * math.prod(_read_shape(path, rules))
        if needed > most:
            raise RequestError(
                f"{path.name} unpacks to {format_bytes(needed)}; this server takes up to {format_bytes(most)}; crop "
                "it, predict it with predict.py, or start the server with a larger --max-unpacked",
                status=TOO_LARGE,
            )


def _read_shape(path: Path, rules: CaseRules) -> tuple[int, ...]:
    """Shape of the values in a file, from its header."""
    name = path.name.lower()
    if name.endswith(".npy"):
        return npy_shape(path)
    if is_scan(path):
        return tuple(open_scan(path).shape)
    if name.endswith(PICTURE_SUFFIXES) and not rules.of_volumes:
        return image_shape(path)
    return tuple(open_source(path).shape)


# -- zarr stores in zip files ---------------------------------------------------------------------------------


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
        if is_zarr(target):
            return target
        inside = [entry for entry in target.iterdir() if entry.name != "__MACOSX"] if target.is_dir() else []
        if len(inside) != 1 or not inside[0].is_dir():
            break
        target = inside[0]
    raise DataError(f"{path} holds no zarr store: no {', '.join(NODES)} at its top or in its only folder")
