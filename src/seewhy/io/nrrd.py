"""Read and write NRRD volumes, in RAS+ scanner space like NIfTI."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.checks.read_errors import reading
from seewhy.io.checks.sizes import check_regular_file
from seewhy.io.geometry import Geometry
from seewhy.io.scans.header import ScanHeader, find_data_file, make_geometry

__all__ = ["NRRD_SUFFIXES", "nrrd_geometry", "read_nrrd", "read_nrrd_header", "reading_nrrd", "write_nrrd"]

NRRD_SUFFIXES = (".nrrd", ".nhdr")
DAMAGE = (KeyError, TypeError, AttributeError, StopIteration, IndexError, OverflowError)
"""Errors of pynrrd for damaged headers."""
PACKINGS = {
    "raw": "raw",
    **dict.fromkeys(("gzip", "gz"), "gzip"),
    **dict.fromkeys(("bzip2", "bz2"), "bzip2"),
    **dict.fromkeys(("ascii", "text", "txt"), "text"),
}
"""Encoding of a header → packing."""
# Signs that convert a NRRD space to RAS+; NRRD names a space by the directions in which its axes point.
TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
MILLIMETRES = {"um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "cm": 10.0, "m": 1e3}
"""Unit of a header → millimetres; others count as millimetres, as ITK reads them."""
IN_SPACE = ("domain", "space", "none", "???")
"""Kinds of axes that may lie in space."""


def reading_nrrd(path: Path) -> AbstractContextManager[None]:
    """Convert errors while a NRRD file is read, see `reading`."""
    return reading(path, kind="NRRD", foreign=nrrd.NRRDError, damage=DAMAGE)


def read_nrrd(path: str | Path) -> tuple[NDArray[Any], Geometry]:
    """Read a volume and its grid.

    Args:
        path: a `.nrrd` file (or `.nhdr` with its data file next to it).

    Returns:
        Values [X, Y, Z], fastest axis first as in NIfTI (or [X, Y, Z, C]), and the grid.

    Raises:
        DataError: the file is missing, damaged, not NRRD, does not have three axes in space and at most one of
            channels, does not fit into memory, or names a data file in another folder.

    Example:
        >>> nrrd.write("mr.nrrd", np.zeros((2, 3, 4), np.int16), {"spacings": [1.0, 1.0, 3.0]})
        >>> image, geometry = read_nrrd("mr.nrrd")
        >>> image.shape, geometry.spacing
        ((2, 3, 4), (1.0, 1.0, 3.0))
    """
    with reading_nrrd(Path(path)):
        header = read_nrrd_header(path)
        return header.read_values(), header.geometry


def nrrd_geometry(path: str | Path) -> Geometry:
    """Read only the grid, from the header.

    Raises:
        DataError: see `read_nrrd`.
    """
    path = Path(path)
    with reading_nrrd(path), path.open("rb") as file:
        return _geometry(path, nrrd.read_header(file))[0]


def read_nrrd_header(path: str | Path) -> ScanHeader:
    """Read the header.

    Raises:
        DataError: see `read_nrrd`.
    """
    path = Path(path)
    with reading_nrrd(path), path.open("rb") as file:
        facts = nrrd.read_header(file)
        geometry, channel_axis = _geometry(path, facts)
        packing = PACKINGS.get(str(facts["encoding"]).lower())
        if packing is None:
            raise DataError(f"{path} has the encoding {facts['encoding']!r}; expected one of {', '.join(PACKINGS)}")
        name = facts.get("data file", facts.get("datafile"))
        data = path if name is None else find_data_file(path, str(name))
        dtype = nrrd.reader._determine_datatype(facts)  # pynrrd has no public way to the type of a header
        lines = int(facts.get("line skip", facts.get("lineskip", 0)))
        skip = int(facts.get("byte skip", facts.get("byteskip", 0)))
        with data.open("rb") as values:
            offset = _skip_lines(values, lines, start=file.tell() if data == path else 0)
        header = ScanHeader(
            path=path, data=data, dtype=dtype, stored_shape=tuple(int(size) for size in facts["sizes"]),
            geometry=geometry, channel_axis=channel_axis, offset=offset, packing=packing, skip=max(0, skip),
            has_spacing="space directions" in facts or "spacings" in facts,
        )  # fmt: skip
        header.check()
        if skip == -1 and packing == "raw":  # the values are the last bytes of the file
            offset = check_regular_file(data).st_size - header.nbytes
            return ScanHeader(**{**header.__dict__, "offset": offset})
        return header


def write_nrrd(path: str | Path, array: NDArray[Any], *, affine: NDArray[Any], oriented: bool = True) -> Path:
    """Write a volume atomically, compressed, in LPS space as ITK does.

    Args:
        path: ends in `.nrrd`.
        array: [X, Y, Z] or [X, Y, Z, C] of integers or floats of 32 or 64 bits; bool is stored as uint8.
        affine: [4, 4], voxel indices to RAS+ millimetres.
        oriented: whether the orientation is known; otherwise only the voxel size is written.

    Raises:
        DataError: another suffix, or a type or shape that NRRD does not have.

    Example:
        >>> path = write_nrrd("mask.nrrd", np.ones((2, 3, 4), np.uint8), affine=np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> read_nrrd(path)[1].spacing
        (1.0, 1.0, 3.0)
    """
    final = Path(path)
    if final.suffix.lower() != ".nrrd":
        raise DataError(f"{final}: NRRD is written to one file; choose a name that ends in .nrrd")
    values = np.asarray(array)
    values = values.astype(np.uint8) if values.dtype == bool else values
    if values.ndim not in (3, 4) or values.dtype.kind not in "iuf" or values.dtype.name in ("float16", "float128"):
        raise DataError(
            f"{final}: NRRD cannot hold values of type {values.dtype} and shape {values.shape}; expected integers, "
            "float32 or float64 of three axes, or four with channels last"
        )
    space = np.asarray(affine, np.float64)[:3] * np.array([[-1], [-1], [1]])
    facts: dict[str, Any] = {"encoding": "gzip"}
    if oriented:
        facts |= {"space": "left-posterior-superior", "space directions": space[:, :3].T, "space origin": space[:, 3]}
    else:
        facts["spacings"] = np.linalg.norm(space[:, :3], axis=0)
    facts["kinds"] = ["domain"] * 3
    if values.ndim == 4:
        values, facts["kinds"] = np.moveaxis(values, 3, 0), ["vector", *facts["kinds"]]
        for key, empty in (("space directions", np.full((1, 3), np.nan)), ("spacings", np.array([np.nan]))):
            if key in facts:
                facts[key] = np.concatenate([empty, facts[key]])
    with atomic_path(final) as temporary:
        nrrd.write(str(temporary), values, facts, index_order="F")
    return final


def _skip_lines(file: IO[bytes], lines: int, *, start: int) -> int:
    """Position after some lines of a file."""
    stored = check_regular_file(file.name).st_size - start
    if not 0 <= lines <= stored:
        raise nrrd.NRRDError(f"line skip: {lines} in a file of {stored} bytes")
    file.seek(start)
    for _ in range(lines):
        file.readline()
    return file.tell()


def _find_channel_axis(header: Mapping[str, Any], axes: int) -> int | None:
    """Axis that does not lie in space; None if there is none.

    Raises:
        nrrd.NRRDError: the header does not tell which of four axes it is.
    """
    if axes != 4:
        return None
    steps = header.get("space directions", header.get("spacings"))
    if steps is not None:
        rows = [np.atleast_1d(np.asarray(row, dtype=np.float64)) for row in steps if row is not None]
        outside = [axis for axis, row in enumerate(rows) if not np.isfinite(row).all()] if len(rows) == axes else []
        outside = outside or [axis for axis, row in enumerate(steps) if row is None]
    else:
        outside = []
    kinds = [str(kind) for kind in header.get("kinds", ())]
    outside = outside or [axis for axis, kind in enumerate(kinds) if kind not in IN_SPACE]
    if len(outside) != 1:
        raise nrrd.NRRDError("four axes, of which none is marked as that of the channels (kinds: vector domain …)")
    return outside[0]


def _geometry(path: Path, header: Mapping[str, Any]) -> tuple[Geometry, int | None]:
    """Grid of a header (`space directions`, or `spacings` if the header states no space), and its channel axis."""
    sizes = [int(size) for size in header["sizes"]]
    channel_axis = _find_channel_axis(header, len(sizes))
    kept = [axis for axis in range(len(sizes)) if axis != channel_axis]
    shape = [sizes[axis] for axis in kept]
    directions = header.get("space directions")
    oriented = directions is not None and "space" in header
    if len(shape) != 3 or (directions is None and "spacings" not in header):
        return make_geometry(path, shape, directions=np.eye(3), signs=(1, 1, 1), oriented=False), channel_axis
    if directions is None:
        steps = np.diag([float(header["spacings"][axis]) for axis in kept])
        return make_geometry(path, shape, directions=steps, signs=(1, 1, 1), oriented=False), channel_axis
    space = str(header.get("space", "left-posterior-superior")).lower()
    if space not in TO_RAS:
        raise DataError(f"{path} has the space {space!r}; expected one of {', '.join(sorted(TO_RAS))}")
    steps = np.array([directions[axis] for axis in kept], dtype=np.float64)
    units = {str(unit).strip('" ') for unit in header.get("space units", ())}
    factor = MILLIMETRES.get(units.pop(), 1.0) if len(units) == 1 else 1.0
    origin = np.asarray(header.get("space origin", (0, 0, 0)), dtype=np.float64)
    geometry = make_geometry(
        path, shape, directions=steps * factor, origin=origin * factor, signs=TO_RAS[space], oriented=oriented
    )
    return geometry, channel_axis
