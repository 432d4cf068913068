"""Header of a scan in NRRD or MetaImage: its grid, and where and how its values are stored."""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seewhy.errors import DataError
from seewhy.io.checks.sizes import check_announced, check_memory, check_regular_file, format_bytes
from seewhy.io.geometry import Geometry

__all__ = ["ScanHeader", "find_data_file", "make_geometry"]

PIECE = 1 << 20
"""Bytes that are unpacked at once."""


@dataclass(frozen=True, kw_only=True)
class ScanHeader:
    """What the header of a scan states.

    Attributes:
        path: the file of the header, for messages.
        data: the file of the values, the same or one next to it.
        dtype: of the stored values, with their byte order.
        stored_shape: fastest axis first, three axes in space and at most one of channels.
        channel_axis: axis of the channels in `stored_shape`; None without one.
        geometry: grid of the axes in space.
        offset: bytes before the values, or before the stream that holds them.
        packing: `raw`, `gzip`, `zlib`, `bzip2` or `text`.
        skip: unpacked bytes before the values.
        has_spacing: whether the header states the voxel size.
    """

    path: Path
    data: Path
    dtype: np.dtype[Any]
    stored_shape: tuple[int, ...]
    geometry: Geometry
    channel_axis: int | None = None
    offset: int = 0
    packing: str = "raw"
    skip: int = 0
    has_spacing: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z), or (X, Y, Z, C)."""
        if self.channel_axis is None:
            return self.stored_shape
        space = [size for axis, size in enumerate(self.stored_shape) if axis != self.channel_axis]
        return (*space, self.stored_shape[self.channel_axis])

    @property
    def nbytes(self) -> int:
        """Bytes of the values, unpacked."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    def check(self) -> None:
        """Compare the announced size with the file, before memory or disk is taken.

        Raises:
            DataError: the file of the values is missing, or too short.
        """
        stored = check_regular_file(self.data).st_size - self.offset
        if self.packing == "text":
            check_announced(self.data, 2 * math.prod(self.stored_shape) - 1, stored=stored)
        elif self.packing != "bzip2":  # bzip2 has no limit of this kind
            check_announced(self.data, self.skip + self.nbytes, stored=stored, packed=self.packing != "raw")

    def read_values(self) -> NDArray[Any]:
        """Read all values, [X, Y, Z] or [X, Y, Z, C], in this machine's byte order.

        Raises:
            DataError: they do not fit into memory, or the file holds more or fewer of them.
        """
        self.check()
        check_memory(self.data, self.nbytes)
        if self.packing == "text":
            values = self.read_text()
        else:
            values, position = np.empty(math.prod(self.stored_shape), self.dtype), 0
            buffer = values.view(np.uint8)
            for piece in self.unpack():
                buffer[position : position + len(piece)] = np.frombuffer(piece, np.uint8)
                position += len(piece)
        values = values.reshape(self.stored_shape, order="F")
        return self.move_channels(values.astype(self.dtype.newbyteorder("="), copy=False))

    def read_text(self) -> NDArray[Any]:
        """Read values that are written as decimal numbers."""
        with self.data.open("rb") as file:
            file.seek(self.offset)
            values = np.fromstring(file.read().decode("ascii"), self.dtype, sep=" ")
        if len(values) != math.prod(self.stored_shape):
            raise DataError(
                f"{self.data} is truncated or damaged: it holds {len(values)} values, its header announces "
                f"{math.prod(self.stored_shape)}"
            )
        return np.asarray(values)

    def unpack(self) -> Iterator[bytes]:
        """Iterate over the bytes of the values; the file stays open meanwhile.

        Raises:
            DataError: more or fewer bytes than announced.
        """
        left, skip = self.nbytes, self.skip
        with self.data.open("rb") as file:
            file.seek(self.offset)
            for piece in _iterate(file, self.packing):
                values = piece[skip:]
                skip = max(0, skip - len(piece))
                if len(values) > left:
                    if self.packing != "raw":
                        announced = format_bytes(self.nbytes)
                        raise DataError(f"{self.data} holds more values than the {announced} that its header announces")
                    values = values[:left]
                left -= len(values)
                yield values
                if left == 0 and self.packing == "raw":
                    return
        if left:
            raise DataError(
                f"{self.data} is truncated or damaged: {format_bytes(left)} of {format_bytes(self.nbytes)} of values "
                "are missing; copy or download it again"
            )

    def move_channels(self, values: NDArray[Any]) -> NDArray[Any]:
        """Move the channels of a stored array to the end."""
        return values if self.channel_axis is None else np.moveaxis(values, self.channel_axis, -1)


def _iterate(file: IO[bytes], packing: str) -> Iterator[bytes]:
    """Iterate over the unpacked bytes of a stream."""
    if packing == "zlib":
        yield from _inflate(file)
        return
    stream: Any = file
    if packing == "gzip":
        stream = gzip.GzipFile(fileobj=file)
    elif packing == "bzip2":
        stream = bz2.BZ2File(file)
    while piece := stream.read(PIECE):
        yield piece


def _inflate(file: IO[bytes]) -> Iterator[bytes]:
    """Iterate over the bytes of a zlib stream (or gzip, by its first bytes); what follows its end is ignored.

    Raises:
        EOFError: the stream ends too early.
        zlib.error: the stream is damaged.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(PIECE)
        if not packed:
            raise EOFError("the compressed values end too early")
        yield unpacker.decompress(packed, PIECE)


def find_data_file(path: Path, name: str) -> Path:
    """The data file of a detached header, which has to lie next to it: a header must not open other files.

    Raises:
        DataError: another folder, a list or a pattern of files, or no such file.
    """
    if name != Path(name).name or name in ("", ".", "..") or name.split()[0] == "LIST" or "\\" in name or "%" in name:
        raise DataError(f"{path} names the data file {name!r}; expected the name of one file in the same folder")
    check_regular_file(path.parent / name)
    return path.parent / name


def make_geometry(
    path: Path,
    shape: Sequence[int],
    *,
    directions: ArrayLike,
    origin: ArrayLike = (0, 0, 0),
    signs: ArrayLike = (-1, -1, 1),
    oriented: bool = True,
) -> Geometry:
    """Grid of a header.

    Args:
        path: name in error messages.
        shape: voxels along X, Y and Z.
        directions: [3, 3], one row per axis of the array: the step to the next voxel in mm.
        origin: position of the first voxel in mm.
        signs: factors that convert the header's space to RAS+; the default is for LPS.
        oriented: whether the header states the orientation.

    Raises:
        DataError: axes of no length, or no grid in space.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise DataError(f"{path} has {len(sizes)} axes of sizes {sizes}; expected three axes of one voxel or more")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=np.float64).T
    affine[:3, 3] = np.asarray(origin, dtype=np.float64)
    affine[:3] *= np.asarray(signs, dtype=np.float64)[:, None]
    try:
        return Geometry(shape=(sizes[0], sizes[1], sizes[2]), affine=affine, oriented=oriented)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
