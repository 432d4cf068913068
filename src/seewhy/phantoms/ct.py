"""CTPhantom: synthetic CT volumes as OME-Zarr with labels, as volume segmentation finds them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.phantoms.ct_body import CLASSES, BodyRecipe, draw_body
from seewhy.phantoms.once import check_least, counted, write_once

__all__ = ["BODY", "write_ct_phantom"]

BODY = BodyRecipe()
VERSION = 1
"""Raised whenever the same settings would draw other volumes, so that old folders are not taken for new ones."""


def write_ct_phantom(
    root: str | Path,
    *,
    volumes: int = 12,
    shape: Sequence[int] = (64, 80, 80),
    spacing: Sequence[float] = (1.25, 1.0, 1.0),
    chunk: int = 32,
    seed: int = 0,
) -> Path:
    """Write `images/<volume>.zarr`, `labels/<volume>.zarr` and `dataset.json`, unless they are there already.

    Every volume shows a body with bones, a few nodules (label 1) and a vessel that branches (label 2). Hollow balls
    and flat sheets of the same brightness belong to the background, and the middle of the body is darker than its
    rim, so that shape tells the classes and no threshold does. Stores are OME-Zarr 0.5 (zarr format 3) with one
    level, images int16 in Hounsfield units, labels uint8.

    Args:
        root: the data set's folder.
        volumes: how many, each of a patient of its own.
        shape: voxels along the body (Z), to the back (Y) and to a side (X).
        spacing: mm between voxels along Z, Y, X.
        chunk: voxels per side of a chunk.
        seed: the same seed gives the same bytes.

    Returns:
        `root` as a path.

    Raises:
        ConfigError: a number that draws no volume.
        DataError: `root` holds another phantom or data that is none.
    """
    if len(shape) != 3 or len(spacing) != 3 or min(spacing) <= 0:
        raise ConfigError(
            f"phantom.shape={list(shape)} and phantom.spacing={list(spacing)} must be three numbers each, above 0"
        )
    check_least({"volumes": (volumes, 1), "shape": (min(shape), 32), "chunk": (chunk, 8), "seed": (seed, 0)})
    settings = {
        "name": "ct", "phantom": True, "version": VERSION, "modality": "ct", "volumes": volumes,
        "shape": [int(n) for n in shape], "spacing": [float(n) for n in spacing], "chunk": chunk, "seed": seed,
        "classes": list(CLASSES),
    }  # fmt: skip

    def write(folder: Path) -> None:
        _write_volumes(folder, settings)
        write_json(folder / "dataset.json", settings)

    files = {"images/*.zarr/zarr.json": volumes, "labels/*.zarr/zarr.json": volumes}
    return write_once(root, settings, write, files=files, kind="volumes")


def _write_volumes(folder: Path, settings: dict[str, Any]) -> None:
    """Draw and write all volumes."""
    depth, rows, columns = settings["shape"]
    dz, dy, dx = settings["spacing"]
    for number in counted(settings["volumes"], "writing ct phantom"):
        body = draw_body(BODY, shape=(depth, rows, columns), spacing=(dz, dy, dx), seed=settings["seed"], number=number)
        name = f"ct{number + 1:03d}"
        for part, array in (("images", body.image), ("labels", body.label)):
            _write_store(folder / part / f"{name}.zarr", array, name, settings)


def _write_store(path: Path, array: NDArray[Any], name: str, settings: dict[str, Any]) -> None:
    """One OME-Zarr 0.5 group with the array as its only level."""
    import zarr

    scale = {"type": "scale", "scale": settings["spacing"]}
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    multiscale = {
        "name": name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }  # fmt: skip
    attributes: dict[str, Any] = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    if np.issubdtype(array.dtype, np.unsignedinteger):
        colours = [{"label-value": value} for value in range(len(CLASSES))]
        attributes["ome"]["image-label"] = {"version": "0.5", "colors": colours}
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
    level = group.create_array(
        "0", shape=array.shape, dtype=array.dtype, chunks=(settings["chunk"],) * 3, dimension_names=list("zyx")
    )
    level[...] = array
