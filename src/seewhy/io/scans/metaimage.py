"""Read and write MetaImage volumes (`.mha`, and `.mhd` with a file of values), in RAS+ scanner space like NIfTI.

The format is documented at https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.checks.read_errors import reading
from seewhy.io.checks.sizes import check_regular_file
from seewhy.io.scans.header import ScanHeader, find_data_file, make_geometry

__all__ = ["METAIMAGE_SUFFIXES", "read_metaimage_header", "reading_metaimage", "write_metaimage"]

METAIMAGE_SUFFIXES = (".mha", ".mhd")
LONGEST = 1 << 16
"""Maximum bytes of a header."""
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
"""Type of a header → type of NumPy without byte order; `LONG` has 32 bits in MetaIO, on every machine."""
NAMES = {dtype: name for name, dtype in reversed(TYPES.items())}


class ForeignFileError(Exception):
    """The file does not begin like a MetaImage."""


def reading_metaimage(path: Path) -> AbstractContextManager[None]:
    """Convert errors while a MetaImage is read, see `reading`."""
    return reading(path, kind="MetaImage", foreign=ForeignFileError, damage=(KeyError, OverflowError))


def read_metaimage_header(path: str | Path) -> ScanHeader:
    """Read the header.

    A volume has three axes in space, or two (the third then has one voxel); channels are stored with each voxel, or
    along a fourth axis.

    Args:
        path: `.mha`, or `.mhd` with its file of values next to it.

    Raises:
        DataError: the file is missing, damaged, not MetaImage, of a kind that is not read (named), too short for what
            it announces, or names a file in another folder.
    """
    path = Path(path)
    with reading_metaimage(path), path.open("rb") as file:
        facts = _read_facts(file)
        kind = facts["ElementType"]
        if kind not in TYPES:
            raise DataError(f"{path} holds values of type {kind}; expected one of {', '.join(TYPES)}")
        if not _is_true(facts.get("BinaryData", "True")):
            raise DataError(f"{path} holds its values as text (BinaryData = False); convert it, e.g. with SimpleITK")
        sizes = [int(size) for size in facts["DimSize"].split()]
        if len(sizes) != int(facts["NDims"]) or not 2 <= len(sizes) <= 4 or min(sizes) < 1:
            raise DataError(f"{path} has {facts['NDims']} axes of sizes {sizes}; expected three of one voxel or more")
        msb = facts.get("BinaryDataByteOrderMSB", facts.get("ElementByteOrderMSB", "False"))
        dtype = np.dtype(TYPES[kind]).newbyteorder(">" if _is_true(msb) else "<")
        channels = int(facts.get("ElementNumberOfChannels", 1))
        shape, channel_axis = _arrange(path, sizes, channels)
        own = facts["ElementDataFile"].upper() == "LOCAL"
        header = ScanHeader(
            path=path, data=path if own else find_data_file(path, facts["ElementDataFile"]), dtype=dtype,
            stored_shape=shape, channel_axis=channel_axis, geometry=_find_geometry(path, sizes, facts),
            offset=file.tell() if own else 0,
            packing="zlib" if _is_true(facts.get("CompressedData", "False")) else "raw",
            has_spacing="ElementSpacing" in facts or "ElementSize" in facts,
        )  # fmt: skip
        header = ScanHeader(**{**header.__dict__, "offset": _find_offset(header, facts)})
        header.check()
        return header


def write_metaimage(path: str | Path, array: NDArray[Any], *, affine: NDArray[Any]) -> Path:
    """Write a volume atomically, compressed, in LPS space as ITK does.

    Args:
        path: ends in `.mha`.
        array: [X, Y, Z], or [X, Y, Z, C]; bool is stored as uint8.
        affine: [4, 4], voxel indices to RAS+ millimetres.

    Raises:
        DataError: another suffix, or a type or shape that MetaImage does not have.

    Example:
        >>> path = write_metaimage("mask.mha", np.ones((2, 3, 4), np.uint8), affine=np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> read_metaimage_header(path).geometry.spacing
        (1.0, 1.0, 3.0)
    """
    final = Path(path)
    if final.suffix.lower() != ".mha":
        raise DataError(f"{final}: MetaImage is written to one file; choose a name that ends in .mha")
    values = np.asarray(array)
    values = values.astype(np.uint8) if values.dtype == bool else values
    code = f"{values.dtype.kind}{values.dtype.itemsize}"
    if values.ndim not in (3, 4) or code not in NAMES:
        raise DataError(
            f"{final}: MetaImage cannot hold values of type {values.dtype} and shape {values.shape}; expected "
            "integers, float32 or float64 of three axes, or four with channels last"
        )
    space = np.asarray(affine, np.float64)[:3] * np.array([[-1], [-1], [1]])
    spacing = np.linalg.norm(space[:, :3], axis=0)
    stored = values if values.ndim == 3 else np.moveaxis(values, 3, 0)
    content = zlib.compress(np.asarray(stored, values.dtype.newbyteorder("<")).tobytes(order="F"))
    facts: dict[str, Any] = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False, "CompressedData": True,
        "CompressedDataSize": len(content), "TransformMatrix": _join((space[:, :3] / spacing).T.ravel()),
        "Offset": _join(space[:, 3]), "ElementSpacing": _join(spacing), "DimSize": _join(values.shape[:3]),
    }  # fmt: skip
    if values.ndim == 4:
        facts["ElementNumberOfChannels"] = values.shape[3]
    facts |= {"ElementType": NAMES[code], "ElementDataFile": "LOCAL"}
    with atomic_path(final) as temporary:
        text = "".join(f"{key} = {value}\n" for key, value in facts.items())
        temporary.write_bytes(text.encode("ascii") + content)
    return final


def _read_facts(file: IO[bytes]) -> dict[str, str]:
    """Read the lines `key = value` up to the name of the file of values, which comes last."""
    facts: dict[str, str] = {}
    while "ElementDataFile" not in facts:
        line = file.readline(LONGEST)
        key, equals, value = line.decode("utf-8", "replace").partition("=")
        if not equals or file.tell() > LONGEST:
            raise ForeignFileError("no line ElementDataFile = …" if facts else "no lines key = value")
        if not facts and key.strip() not in ("ObjectType", "NDims", "Comment", "ObjectSubType"):
            raise ForeignFileError(f"it begins with {key.strip()[:20]!r}")
        facts[key.strip()] = value.strip()
    return facts


def _join(numbers: Any) -> str:
    """Numbers with all their digits, as a header lists them."""
    return " ".join(np.format_float_positional(number, trim="-") for number in np.asarray(numbers).tolist())


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "t", "yes")


def _arrange(path: Path, sizes: list[int], channels: int) -> tuple[tuple[int, ...], int | None]:
    """Stored shape with three axes in space, and the axis of the channels.

    Raises:
        DataError: no channels, or channels in two ways.
    """
    if channels < 1 or (channels > 1 and len(sizes) == 4):
        raise DataError(f"{path} has {channels} channels and sizes {sizes}; expected one volume, or one with channels")
    space = (*sizes, 1) if len(sizes) == 2 else tuple(sizes)
    if channels > 1:
        return (channels, *space), 0
    if len(space) == 4:
        return (space[:3], None) if space[3] == 1 else (space, 3)
    return space, None


def _find_geometry(path: Path, sizes: list[int], facts: Mapping[str, str]) -> Any:
    """Grid of the axes in space."""
    count = len(sizes)

    def read_numbers(*names: str, default: NDArray[Any]) -> NDArray[Any]:
        text = next((facts[name] for name in names if name in facts), None)
        values = default if text is None else np.array([float(value) for value in text.split()])
        if values.size != default.size:
            raise DataError(f"{path}: {names[0]} has {values.size} numbers; expected {default.size}")
        return values

    matrix = read_numbers("TransformMatrix", "Rotation", "Orientation", default=np.eye(count).ravel()).reshape(
        count, count
    )
    spacing = read_numbers("ElementSpacing", "ElementSize", default=np.ones(count))
    origin = read_numbers("Offset", "Position", "Origin", default=np.zeros(count))
    directions, start = np.eye(3), np.zeros(3)
    space = min(count, 3)
    directions[:space, :space] = matrix[:space, :space] * spacing[:space, None]
    start[:space] = origin[:space]
    oriented = any(name in facts for name in ("TransformMatrix", "Rotation", "Orientation"))
    shape = (*sizes[:space], *[1] * (3 - space))
    return make_geometry(path, shape, directions=directions, origin=start, oriented=oriented)


def _find_offset(header: ScanHeader, facts: Mapping[str, str]) -> int:
    """Bytes before the values; with HeaderSize = -1 the values are the last bytes of the file."""
    size = int(facts.get("HeaderSize", 0))
    if size == -1:
        if header.packing != "raw":
            raise DataError(f"{header.path} has HeaderSize = -1 and compressed values, whose size is unknown")
        return max(0, check_regular_file(header.data).st_size - header.nbytes)
    if size < 0:
        raise DataError(f"{header.path} has HeaderSize = {size}; expected -1, 0 or more")
    return header.offset + size
