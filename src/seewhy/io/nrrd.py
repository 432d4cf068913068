"""Read NRRD volumes, in RAS+ scanner space like NIfTI."""

from __future__ import annotations

import bz2
import gzip
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.checks.read_errors import reading
from seewhy.io.checks.sizes import check_announced, check_memory, check_regular_file
from seewhy.io.geometry import Geometry

__all__ = ["nrrd_geometry", "read_nrrd"]

DAMAGE = (KeyError, TypeError, AttributeError, StopIteration, IndexError, OverflowError)
"""Errors of pynrrd for damaged headers."""
PACKED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("gzip", "gz"), gzip.open),
    **dict.fromkeys(("bzip2", "bz2"), bz2.open),
}
"""Encoding of a header → opener of its stream."""
# Signs that convert a NRRD space to RAS+; NRRD names a space by the directions in which its axes point.
TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}


def read_nrrd(path: str | Path) -> tuple[NDArray[Any], Geometry]:
    """Read a volume and its grid.

    Args:
        path: a `.nrrd` file (or `.nhdr` with its data file next to it).

    Returns:
        Values [X, Y, Z], fastest axis first as in NIfTI, and the grid.

    Raises:
        DataError: the file is missing, damaged, not NRRD, does not have three axes, does not fit into memory, or
            names a data file in another folder.

    Example:
        >>> nrrd.write("mr.nrrd", np.zeros((2, 3, 4), np.int16), {"spacings": [1.0, 1.0, 3.0]})
        >>> image, geometry = read_nrrd("mr.nrrd")
        >>> image.shape, geometry.spacing
        ((2, 3, 4), (1.0, 1.0, 3.0))
    """
    path = Path(path)
    with reading(path, kind="NRRD", foreign=nrrd.NRRDError, damage=DAMAGE), path.open("rb") as file:
        header = nrrd.read_header(file)
        geometry = _geometry(path, header)
        values = _read_values(path, header, file)
    return values.astype(values.dtype.newbyteorder("="), copy=False), geometry


def nrrd_geometry(path: str | Path) -> Geometry:
    """Read only the grid, from the header.

    Raises:
        DataError: see `read_nrrd`.
    """
    path = Path(path)
    with reading(path, kind="NRRD", foreign=nrrd.NRRDError, damage=DAMAGE), path.open("rb") as file:
        return _geometry(path, nrrd.read_header(file))


def _read_values(path: Path, header: dict[str, Any], file: IO[bytes]) -> NDArray[Any]:
    """Values of the file or of its data file, after a check of the announced size."""
    name = header.pop("data file", header.pop("datafile", None))
    if name is not None:
        data = _data_file(path, str(name))
        with data.open("rb") as other:
            return _read_values(data, header, other)
    stored = check_regular_file(path).st_size - file.tell()
    dtype = nrrd.reader._determine_datatype(header)  # pynrrd has no public way to the type of a header
    count = math.prod(int(size) for size in header["sizes"])
    lines = int(header.get("line skip", header.get("lineskip", 0)))
    if not 0 <= lines <= stored:
        raise nrrd.NRRDError(f"line skip: {lines} in a file of {stored} bytes")
    packed = PACKED.get(str(header["encoding"]))
    announced = count * dtype.itemsize
    if packed is None:
        text = header["encoding"] != "raw"
        check_announced(path, 2 * count - 1 if text else announced, stored=stored)
        check_memory(path, announced)
        return np.asarray(nrrd.read_data(header, file, str(path), index_order="F"))
    if packed is gzip.open:  # bzip2 has no limit of this kind
        check_announced(path, announced, stored=stored, packed=True)
    check_memory(path, announced)
    for _ in range(lines):
        file.readline()
    with packed(file, "rb") as unpacked:
        unpacked.seek(max(0, int(header.get("byte skip", header.get("byteskip", 0)))))
        values = unpacked.read(announced)
        if unpacked.read(1):
            raise nrrd.NRRDError(f"more values than the {announced} bytes that its header announces")
    plain = {key: header[key] for key in header if key.replace(" ", "") not in ("lineskip", "byteskip")}
    return np.asarray(nrrd.read_data({**plain, "encoding": "raw"}, io.BytesIO(values), index_order="F"))


def _data_file(path: Path, name: str) -> Path:
    """The data file of a detached header, which has to lie next to it: a header must not open other files.

    Raises:
        DataError: another folder, a list or a pattern of files, or no such file.
    """
    if name != Path(name).name or name in ("", ".", "..") or name.split()[0] == "LIST" or "\\" in name:
        raise DataError(f"{path} names the data file {name!r}; expected the name of one file in the same folder")
    check_regular_file(path.parent / name)
    return path.parent / name


def _geometry(path: Path, header: Mapping[str, Any]) -> Geometry:
    """Grid of a header: `space directions`, or `spacings` if the header states no space."""
    sizes = tuple(int(size) for size in header["sizes"])
    if len(sizes) != 3 or min(sizes) < 1:
        raise DataError(f"{path} has {len(sizes)} axes of sizes {sizes}; expected three axes of one voxel or more")
    affine = np.eye(4)
    directions = header.get("space directions")
    oriented = directions is not None and "space" in header
    if directions is not None:
        affine[:3, :3] = np.asarray(directions, dtype=np.float64).T
        affine[:3, 3] = np.asarray(header.get("space origin", (0, 0, 0)), dtype=np.float64)
        space = str(header.get("space", "left-posterior-superior")).lower()
        if space not in TO_RAS:
            raise DataError(f"{path} has the space {space!r}; expected one of {', '.join(sorted(TO_RAS))}")
        affine[:3] *= np.asarray(TO_RAS[space])[:, None]
    elif "spacings" in header:
        affine[:3, :3] = np.diag(np.asarray(header["spacings"], dtype=np.float64))
    try:
        return Geometry(shape=(sizes[0], sizes[1], sizes[2]), affine=affine, oriented=oriented)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
