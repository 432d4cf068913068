"""Volumes in zarr v2 and v3, bare arrays and OME-NGFF pyramids, local and remote."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.zarr.occupancy import Occupancy
from seewhy.io.zarr.ome import Level, Multiscale, length_in_mm, read_multiscale
from seewhy.io.zarr.source import Box, VolumeSource, checked_channels, native
from seewhy.io.zarr.store import is_remote, open_store

__all__ = ["ZarrSource"]

METADATA = ("zarr.json", ".zarray")


class ZarrSource(VolumeSource):
    """A zarr array, or one level of an OME-NGFF pyramid.

    Axes are taken from the OME metadata, from `dimension_names`, or, where neither is there, as (Z, Y, X) or
    (C, Z, Y, X). An axis t, or any unnamed axis before these, must have one entry.

    Args:
        path: folder or address of an array or group.
        level: of a pyramid, by position (0 is the finest) or by the name of its array; None takes the finest.
            In a group without a pyramid, the name of the array.
        channels: which channels to give; None gives all.
        options: as for `open_store`.

    Raises:
        ConfigError: no such level or channel.
        DataError: nothing there, another number of axes, or no numbers.
    """

    kind = "zarr"

    def __init__(
        self,
        path: str,
        *,
        level: int | str | None = None,
        channels: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.path, self._options = path, dict(options or {})
        self._array: Any = None
        self._occupancy: Occupancy | None = None
        self._process = -1
        self._inside, multiscale, names = self._locate(level)
        array = self._opened()
        self._axes = _positions(path, array.shape, names)
        place = self._axes["c"]
        self.channels = checked_channels(path, 1 if place is None else array.shape[place], channels)
        z, y, x = (self._axes[axis] for axis in "zyx")
        self.shape = (len(self.channels), array.shape[z], array.shape[y], array.shape[x])
        if 0 in self.shape:
            raise DataError(f"{path} has shape {array.shape} and so holds no voxels")
        self.chunks = (array.chunks[z], array.chunks[y], array.chunks[x])
        self.dtype = native(array.dtype, path)
        self.fill_value = 0 if array.fill_value is None else array.fill_value.item()
        if multiscale is not None:
            self._place(multiscale)

    def identity(self) -> dict[str, Any]:
        """Metadata's digest; for a local array also size and time of its metadata file.

        Chunks are not looked at, as asking for millions of them would take longer than a prediction may: an array that
        is written anew is noticed, values that are changed in place are not.
        """
        array = self._opened()
        metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
        record = {**self._described(), "metadata": hashlib.sha256(metadata.encode()).hexdigest()}
        if not is_remote(self.path):
            folder = Path(self.path.removeprefix("file://")) / self._inside
            for name in METADATA:
                if (folder / name).is_file():
                    facts = (folder / name).stat()
                    record |= {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
        return record

    def occupied(self, box: Box) -> bool:
        """False only where no chunk that the box touches is stored.

        Asks the store once per chunk (and reads the index of each shard once), and remembers the answer.
        """
        array = self._opened()
        if self._occupancy is None:
            self._occupancy = Occupancy(array, self.path)
        spans = [range(1)] * array.ndim
        place = self._axes["c"]
        if place is not None:
            spans[place] = range(min(self.channels), max(self.channels) + 1)
        for axis, part in zip("zyx", box, strict=True):
            spans[self._axes[axis]] = range(part.start, part.stop)
        chunks = [range(s.start // c, (s.stop - 1) // c + 1) for s, c in zip(spans, array.chunks, strict=True)]
        return any(self._occupancy.stored(index) for index in itertools.product(*chunks))

    def _read(self, box: Box) -> NDArray[Any]:
        array = self._opened()
        key: list[Any] = [0] * array.ndim
        for axis, part in zip("zyx", box, strict=True):
            key[self._axes[axis]] = part
        place = self._axes["c"]
        if place is not None:
            first, last = min(self.channels), max(self.channels)
            key[place] = slice(first, last + 1)
        try:
            values = np.asarray(array[tuple(key)])
        except Exception as error:  # codecs raise whatever they like about damaged bytes
            raise DataError(self._damage(key, error)) from error
        kept = [axis for axis in ("c", "z", "y", "x") if self._axes[axis] is not None]
        order = np.argsort(np.argsort([self._axes[axis] for axis in kept]))
        values = values.transpose(*order)
        values = values[None] if place is None else values[[channel - first for channel in self.channels]]
        return np.require(values, dtype=self.dtype, requirements=["C", "W", "O"])

    def _locate(self, level: int | str | None) -> tuple[str, Multiscale | None, Sequence[str] | None]:
        """Path of the array inside the store, its pyramid, and the names of its axes."""
        import zarr

        store = self._store(self.path)
        node = _node(store, self.path)
        if isinstance(node, zarr.Array):
            if level is not None:
                raise ConfigError(f"{self.path} is one array without levels; leave level={level!r} out")
            pyramid, name = self._parent()
            names = pyramid.axes if pyramid else node.metadata.to_dict().get("dimension_names")
            self.level = name if pyramid else None
            return "", pyramid, names or node.attrs.get("_ARRAY_DIMENSIONS")
        multiscale = read_multiscale(dict(node.attrs), self.path)
        if multiscale is None:
            return self._only_array(node, level), None, None
        names = [entry.path for entry in multiscale.levels]
        self.level = _chosen(names, 0 if level is None else level)
        if self.level is None:
            raise ConfigError(f"{self.path} has no level {level!r}; {nearest(str(level), names)}")
        return self.level, multiscale, multiscale.axes

    def _only_array(self, node: Any, level: int | str | None) -> str:
        """The array of a group without a pyramid."""
        try:
            names = sorted(name for name, _ in node.arrays())
        except Exception:  # a web server cannot list
            names = []
        if level is not None and (str(level) in names or not names):
            return str(level)
        if level is None and len(names) == 1:
            return names[0]
        if level is None:
            raise ConfigError(
                f"{self.path} is a group without OME multiscales; say which array with level=…; "
                f"{nearest('', names) if names else 'its arrays cannot be listed'}"
            )
        raise ConfigError(f"{self.path} has no array {level!r}; {nearest(str(level), names)}")

    def _parent(self) -> tuple[Multiscale | None, str]:
        """The pyramid around an array that was named itself, e.g. `image.zarr/1`."""
        above, _, name = self.path.rstrip("/").rpartition("/")
        if not above or above.endswith(":/") or (is_remote(above) and above.count("/") < 3):
            return None, name
        try:
            import zarr

            node = _node(self._store(above), above)
            found = read_multiscale(dict(node.attrs), above) if isinstance(node, zarr.Group) else None
        except DataError:
            return None, name
        return (found, name) if found and found.find(name) else (None, name)

    def _place(self, multiscale: Multiscale) -> None:
        """Spacing, translation and unit of the level that is read."""
        level = multiscale.find(self.level or "") or Level("", (1.0,) * len(multiscale.axes), (0.0,))
        where = [multiscale.axes.index(axis) for axis in "zyx"]
        units = [multiscale.units[place] for place in where]
        factors = [length_in_mm(unit) for unit in units]
        self.unit = units[0]
        if len(set(units)) > 1:
            if None in factors:
                raise DataError(f"{self.path}: its axes z, y, x have the units {units}; expected one, or lengths")
            self.unit = "millimeter"
        ratio = [factor if len(set(units)) > 1 and factor else 1.0 for factor in factors]
        z, y, x = (level.scale[place] * more for place, more in zip(where, ratio, strict=True))
        self.spacing = (z, y, x)
        z, y, x = (level.translation[place] * more for place, more in zip(where, ratio, strict=True))
        self.translation = (z, y, x)

    def _store(self, path: str) -> Any:
        return open_store(path, read_only=True, counters=self.counters, options=self._options)

    def _opened(self) -> Any:
        """The array, opened in this process."""
        if self._array is None or self._process != os.getpid():
            import zarr

            node = _node(self._store(self.path), self.path, self._inside)
            if not isinstance(node, zarr.Array):
                raise DataError(f"{self.path}/{self._inside} is a group; expected an array")
            self._array, self._process, self._occupancy = node, os.getpid(), None
        return self._array

    def _damage(self, key: list[Any], error: Exception) -> str:
        """Name the first chunk of a box that cannot be read."""
        array = self._opened()
        spans = [range(part, part + 1) if isinstance(part, int) else range(part.start, part.stop) for part in key]
        grid = [range(s.start // c, (s.stop - 1) // c + 1) for s, c in zip(spans, array.chunks, strict=True)]
        for index in itertools.product(*grid):
            try:
                array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, array.chunks, strict=True))]
            except Exception as cause:
                return _unreadable(self.path, self._inside, index, cause)
        return f"{self.path}: reading failed once and then not again ({_brief(error)}); start again"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None, "_occupancy": None, "_process": -1}


def _node(store: Any, path: str, inside: str = "") -> Any:
    """The array or group at a path."""
    import zarr

    try:
        return zarr.open(store=store, path=inside, mode="r")
    except FileNotFoundError as error:
        where = f"{path}/{inside}" if inside else path
        raise DataError(f"{where} holds no zarr array or group; expected zarr.json, .zarray or .zgroup") from error
    except Exception as error:  # JSON, codecs and networks all have their own
        raise DataError(f"{path} cannot be opened as zarr ({_brief(error)})") from error


def _chosen(names: Sequence[str], level: int | str) -> str | None:
    """The level of this name, or else at this position."""
    if str(level) in names:
        return str(level)
    position = int(level) if str(level).isdigit() else len(names)
    return names[position] if position < len(names) else None


def _positions(path: str, shape: Sequence[int], names: Sequence[str | None] | None) -> dict[str, Any]:
    """Which axis of an array is c, z, y and x; `c` may be None.

    Raises:
        DataError: an axis that we have no place for.
    """
    count = len(shape)
    known = [str(name).lower() for name in names] if names is not None else []
    if not {"z", "y", "x"} <= set(known):
        if names is not None and {"y", "x"} <= set(known):
            raise DataError(f"{path} has axes {known}; expected z, y and x: a volume, not a picture")
        if count not in (3, 4, 5):
            raise DataError(f"{path} has shape {tuple(shape)}; expected (Z, Y, X) or (C, Z, Y, X)")
        known = list("tczyx")[5 - count :]
    for axis, size in zip(known, shape, strict=True):
        if axis not in ("c", "z", "y", "x") and size != 1:
            raise DataError(f"{path} has {size} entries along axis {axis!r}; expected one: cut it out first")
    return {axis: known.index(axis) if axis in known else None for axis in "czyx"}


def _unreadable(path: str, inside: str, index: Sequence[int], error: Exception) -> str:
    where = f"{path}/{inside}" if inside else path
    chunk = ".".join(map(str, index))
    if isinstance(error, OSError) or "aiohttp" in type(error).__module__:
        return f"{where}: chunk {chunk} cannot be read, however often tried ({_brief(error)})"
    return f"{where}: chunk {chunk} is cut off or damaged ({_brief(error)}); copy it again from where it came"


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
