"""Read NRRD volumes, in RAS+ scanner space like NIfTI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.read_errors import reading

__all__ = ["nrrd_geometry", "read_nrrd"]

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
        DataError: the file is missing, damaged, not NRRD, or does not have three axes.

    Example:
        >>> nrrd.write("mr.nrrd", np.zeros((2, 3, 4), np.int16), {"spacings": [1.0, 1.0, 3.0]})
        >>> image, geometry = read_nrrd("mr.nrrd")
        >>> image.shape, geometry.spacing
        ((2, 3, 4), (1.0, 1.0, 3.0))
    """
    path = Path(path)
    with reading(path, kind="NRRD", foreign=nrrd.NRRDError, damage=(KeyError,)):
        values, header = nrrd.read(str(path), index_order="F")
    return np.asarray(values).astype(values.dtype.newbyteorder("="), copy=False), _geometry(path, header)


def nrrd_geometry(path: str | Path) -> Geometry:
    """Read only the grid, from the header.

    Raises:
        DataError: see `read_nrrd`.
    """
    path = Path(path)
    with reading(path, kind="NRRD", foreign=nrrd.NRRDError, damage=(KeyError,)):
        header = nrrd.read_header(str(path))
    return _geometry(path, header)


def _geometry(path: Path, header: Mapping[str, Any]) -> Geometry:
    """Grid of a header: `space directions`, or `spacings` if the header states no space."""
    sizes = tuple(int(size) for size in header["sizes"])
    if len(sizes) != 3:
        raise DataError(f"{path} has {len(sizes)} axes of sizes {sizes}; expected three axes")
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
