"""Volumes in zarr stores: arrays and OME-Zarr, read whole, and results written as OME-Zarr; needs zarr."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy_run.errors import RunError

__all__ = ["Store", "is_store", "open_store", "write_store"]

LENGTHS = {"millimeter": 1.0, "micrometer": 1e-3, "nanometer": 1e-6, "centimeter": 10.0, "meter": 1e3}
"""Unit → millimetres."""
CHUNK = 64


def is_store(path: Path) -> bool:
    """Whether a path is a folder of zarr."""
    return path.is_dir()


@dataclass(frozen=True)
class Store:
    """The finest level of a volume.

    Attributes:
        path: of the store.
        values: [C, Z, Y, X] as stored.
        spacing: along Z, Y and X in `unit`; None where the store gives none.
        translation: centre of the first voxel, like `spacing`.
        unit: as OME-Zarr names it, or None.
    """

    path: Path
    values: NDArray[Any]
    spacing: tuple[float, ...] | None = None
    translation: tuple[float, ...] | None = None
    unit: str | None = None

    @property
    def millimetres(self) -> tuple[float, ...] | None:
        """Spacing in millimetres; None where the unit is unknown."""
        factor = LENGTHS.get(str(self.unit))
        return None if self.spacing is None or factor is None else tuple(size * factor for size in self.spacing)


def open_store(path: Path) -> Store:
    """Read the finest level of a store.

    Raises:
        RunError: zarr is not installed, or the store cannot be read or has other axes than c, z, y, x.
    """
    zarr = _import_zarr(path)
    for entry in path.rglob("*"):
        if not entry.is_file() and not entry.is_dir():
            raise RunError(f"{entry} is not a regular file (a pipe, a device or a dangling link); copy the store again")
    try:
        node = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr and its codecs have errors of their own
        raise RunError(f"{path} cannot be read as zarr ({' '.join(str(error).split())[:200]})") from error
    attributes = dict(node.attrs)
    scales = attributes.get("ome", attributes).get("multiscales") if isinstance(node, zarr.Group) else None
    if scales is None and isinstance(node, zarr.Group):
        raise RunError(f"{path} is a group of arrays without `multiscales`; give the path of one array, e.g. {path}/0")
    spacing = translation = unit = None
    names: list[str] = []
    array: Any = node
    if scales is not None:
        try:
            array, names, spacing, translation, unit = _read_level(node, scales[0])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RunError(f"{path}: its `multiscales` cannot be read ({error!r})") from error
    if array.ndim not in (3, 4, 5) or array.dtype.kind not in "biuf":
        raise RunError(
            f"{path} has {array.dtype} values of shape {array.shape}; expected numbers with axes (c,) z, y, x"
        )
    try:
        values = np.asarray(array[...])
    except Exception as error:  # see above
        raise RunError(f"{path} cannot be read ({' '.join(str(error).split())[:200]})") from error
    if values.ndim == 5:
        if values.shape[0] != 1:
            raise RunError(f"{path} has {values.shape[0]} time points; expected one")
        values = values[0]
    values = values if values.ndim == 4 else values[None]
    if names and names[-3:] != ["z", "y", "x"]:
        raise RunError(f"{path} has the axes {names}; expected … z, y, x")
    return Store(path, values, spacing, translation, unit)


def _read_level(node: Any, scale: Mapping[str, Any]) -> tuple[Any, list[str], Any, Any, str | None]:
    """Array, names of axes, spacing, translation and unit of the finest level."""
    level = scale["datasets"][0]
    path = str(level["path"])
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"path {path!r} leaves the store")
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in scale["axes"]]
    steps: dict[str, Sequence[float]] = {"scale": [1.0] * len(axes), "translation": [0.0] * len(axes)}
    for transform in level.get("coordinateTransformations", ()):
        if transform.get("type") in steps:
            steps[transform["type"]] = [float(value) for value in transform[transform["type"]]]
    spacing = tuple(steps["scale"][-3:])
    if len(spacing) != 3 or not all(math.isfinite(size) and size > 0 for size in spacing):
        raise ValueError(f"scale {list(spacing)}")
    return node[path], [axis["name"] for axis in axes], spacing, tuple(steps["translation"][-3:]), axes[-1].get("unit")


def write_store(path: Path, array: NDArray[Any], like: Store) -> Path:
    """Write [Z, Y, X] or [K, Z, Y, X] as OME-Zarr 0.5 with the grid of another store; an existing store is replaced."""
    zarr = _import_zarr(path)
    axes = [{"name": "c", "type": "channel"}] if array.ndim == 4 else []
    unit = {} if like.unit is None else {"unit": like.unit}
    axes += [{"name": name, "type": "space", **unit} for name in "zyx"]
    lead = [1.0] * (array.ndim - 3)
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [*lead, *(like.spacing or (1.0,) * 3)]}]
    if like.translation is not None:
        transforms.append({"type": "translation", "translation": [*(0.0 for _ in lead), *like.translation]})
    datasets = [{"path": "0", "coordinateTransformations": transforms}]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        group = zarr.open_group(f"{folder}/store", mode="w", zarr_format=3)
        chunks = (*(1 for _ in lead), *(min(CHUNK, side) for side in array.shape[-3:]))
        group.create_array("0", shape=array.shape, dtype=array.dtype, chunks=chunks)[...] = array
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        if path.exists():
            shutil.rmtree(path)
        (Path(folder) / "store").rename(path)
    return path


def _import_zarr(path: Path) -> Any:
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise RunError(f"{path} needs zarr: pip install zarr") from error
    return zarr
