"""Volumes in zarr v2 and v3, plain arrays and OME-NGFF pyramids, local and remote."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.zarr.metadata import check_grid, check_metadata_files, list_nested
from seewhy.io.zarr.ome import Level, Multiscale, length_in_mm, read_multiscale
from seewhy.io.zarr.source import Box, VolumeSource, check_channels, native_dtype
from seewhy.io.zarr.store import is_remote, open_store

__all__ = ["Occupancy", "ZarrSource"]

METADATA = ("zarr.json", ".zarray")
FORMATS = (
    "expected zarr.json, .zarray or .zgroup; other formats are read by their suffix (.nii, .nrrd, .mha, .npy, .tif …)"
)


class ZarrSource(VolumeSource):
    """A zarr array, or one level of an OME-NGFF pyramid.

    Axes are taken from the OME metadata or from `dimension_names`; without either, (Z, Y, X) or (C, Z, Y, X) is
    assumed. An axis t, or any unnamed axis before these, must have length 1.

    Args:
        path: folder or address of an array or group.
        level: level of a pyramid, by position (0 is the finest) or by the name of its array; None takes the finest.
            In a group without a pyramid, the name of the array.
        channels: channels to read; None reads all.
        options: see `open_store`.

    Raises:
        ConfigError: no such level or channel.
        DataError: no store, another number of axes, or not numbers.
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
        array = self._open()
        self._axes = _positions(path, array.shape, names, certain=multiscale is not None)
        place = self._axes["c"]
        self.channels = check_channels(path, 1 if place is None else array.shape[place], channels)
        z, y, x = (self._axes[axis] for axis in "zyx")
        self.shape = (len(self.channels), array.shape[z], array.shape[y], array.shape[x])
        self.chunks = (array.chunks[z], array.chunks[y], array.chunks[x])
        self.dtype = native_dtype(array.dtype, path)
        self.fill_value = 0 if array.fill_value is None else array.fill_value.item()
        if multiscale is not None:
            self._set_position(multiscale)

    def identity(self) -> dict[str, Any]:
        """SHA-256 of the metadata; for a local array also size and time of its metadata file.

        Chunks are not checked, because requests for millions of them could take longer than a prediction: an array
        that is written again is detected, values that are changed in place are not.
        """
        array = self._open()
        metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
        record = {**self._collect_identity(), "metadata": hashlib.sha256(metadata.encode()).hexdigest()}
        if not is_remote(self.path):
            folder = Path(self.path.removeprefix("file://")) / self._inside
            for name in METADATA:
                if (folder / name).is_file():
                    facts = (folder / name).stat()
                    record |= {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
        return record

    def occupied(self, box: Box) -> bool:
        """Whether any chunk that overlaps the box is stored.

        Asks the store once per chunk (and reads the index of each shard once), and caches the answers.
        """
        array = self._open()
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

    def _read_inside(self, box: Box) -> NDArray[Any]:
        array = self._open()
        key: list[Any] = [0] * array.ndim
        for axis, part in zip("zyx", box, strict=True):
            key[self._axes[axis]] = part
        place = self._axes["c"]
        if place is not None:
            first, last = min(self.channels), max(self.channels)
            key[place] = slice(first, last + 1)
        try:
            values = np.asarray(array[tuple(key)])
        except DataError:
            raise
        except Exception as error:  # every codec has its own errors for damaged bytes
            raise DataError(self._format_read_error(key, error)) from error
        kept = [axis for axis in ("c", "z", "y", "x") if self._axes[axis] is not None]
        order = np.argsort(np.argsort([self._axes[axis] for axis in kept]))
        values = values.transpose(*order)
        values = values[None] if place is None else values[[channel - first for channel in self.channels]]
        return np.require(values, dtype=self.dtype, requirements=["C", "W", "O"])

    def _locate(self, level: int | str | None) -> tuple[str, Multiscale | None, Sequence[str] | None]:
        """Find the array: its path inside the store, its pyramid, and the names of its axes."""
        import zarr

        store = self._store(self.path)
        node = _node(store, self.path)
        if isinstance(node, zarr.Array):
            if level is not None:
                raise ConfigError(f"{self.path} is one array without levels; remove level={level!r}")
            pyramid, name = self._parent()
            names = pyramid.axes if pyramid else node.metadata.to_dict().get("dimension_names")
            self.level = name if pyramid else None
            return "", pyramid, names or node.attrs.get("_ARRAY_DIMENSIONS")
        multiscale = read_multiscale(dict(node.attrs), self.path)
        if multiscale is None:
            return self._only_array(node, level), None, None
        names = [entry.path for entry in multiscale.levels]
        self.level = _choose_level(names, 0 if level is None else level)
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
        nested = [] if names or is_remote(self.path) else list_nested(Path(self.path.removeprefix("file://")))
        if nested:
            raise DataError(f"{self.path} is a group of groups; give one of those inside: {', '.join(nested)}")
        if level is None:
            raise ConfigError(
                f"{self.path} is a group without OME multiscales; name the array with level=…; "
                f"{nearest('', names) if names else 'its arrays cannot be listed'}"
            )
        raise ConfigError(f"{self.path} has no array {level!r}; {nearest(str(level), names)}")

    def _parent(self) -> tuple[Multiscale | None, str]:
        """The pyramid that contains an array whose path was given, e.g. `image.zarr/1`."""
        above, _, name = self.path.rstrip("/").rpartition("/")
        if not above or above.endswith(":/") or (is_remote(above) and above.count("/") < 3):
            return None, name
        try:
            import zarr

            node = _node(self._store(above), above)
            pyramid = read_multiscale(dict(node.attrs), above) if isinstance(node, zarr.Group) else None
        except DataError:
            return None, name
        return (pyramid, name) if pyramid and pyramid.find(name) else (None, name)

    def _set_position(self, multiscale: Multiscale) -> None:
        """Set spacing, translation and unit from the level that is read."""
        level = multiscale.find(self.level or "") or Level("", (1.0,) * len(multiscale.axes), (0.0,))
        where = [multiscale.axes.index(axis) for axis in "zyx"]
        units = [multiscale.units[place] for place in where]
        factors = [length_in_mm(unit) for unit in units]
        self.unit = units[0]
        if len(set(units)) > 1:
            if None in factors:
                raise DataError(
                    f"{self.path}: its axes z, y, x have the units {units}; expected one unit, or units of length"
                )
            self.unit = "millimeter"
        ratio = [factor if len(set(units)) > 1 and factor else 1.0 for factor in factors]
        z, y, x = (level.scale[place] * more for place, more in zip(where, ratio, strict=True))
        self.spacing = (z, y, x)
        z, y, x = (level.translation[place] * more for place, more in zip(where, ratio, strict=True))
        self.translation = (z, y, x)
        if not all(0 < size < math.inf for size in self.spacing) or not all(map(math.isfinite, self.translation)):
            raise DataError(
                f"{self.path}: its OME metadata give voxels of size {self.spacing} at {self.translation} (z, y, x); "
                "expected sizes above 0 and finite positions"
            )

    def _store(self, path: str) -> Any:
        return open_store(path, read_only=True, counters=self.counters, options=self._options)

    def _open(self) -> Any:
        """The array, opened once per process."""
        if self._array is None or self._process != os.getpid():
            import zarr

            node = _node(self._store(self.path), self.path, self._inside)
            if not isinstance(node, zarr.Array):
                raise DataError(f"{self.path}/{self._inside} is a group; expected an array")
            check_grid(node, self.path)
            self._array, self._process, self._occupancy = node, os.getpid(), None
        return self._array

    def _format_read_error(self, key: list[Any], error: Exception) -> str:
        """Message that names the first chunk of a box that cannot be read."""
        array = self._open()
        spans = [range(part, part + 1) if isinstance(part, int) else range(part.start, part.stop) for part in key]
        grid = [range(s.start // c, (s.stop - 1) // c + 1) for s, c in zip(spans, array.chunks, strict=True)]
        for index in itertools.product(*grid):
            try:
                array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, array.chunks, strict=True))]
            except Exception as cause:
                return _format_chunk_error(self.path, self._inside, index, cause)
        return f"{self.path}: reading failed once, but succeeded when repeated ({_brief(error)}); start again"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None, "_occupancy": None, "_process": -1}


def _node(store: Any, path: str, inside: str = "") -> Any:
    """The array or group at a path."""
    import zarr

    if not is_remote(path):
        check_metadata_files(Path(path.removeprefix("file://")) / inside)
    try:
        node = zarr.open(store=store, path=inside, mode="r")
        attributes = node.metadata.attributes  # zarr does not check that they are a mapping
        if not isinstance(attributes, Mapping):
            raise TypeError(f"attributes are {attributes!r:.40}, not a mapping")
        return node
    except FileNotFoundError as error:
        where = f"{path}/{inside}" if inside else path
        raise DataError(f"{where} holds no zarr array or group; {FORMATS}") from error
    except Exception as error:  # JSON, codecs and networks have their own errors
        raise DataError(f"{path} cannot be opened as zarr ({_brief(error)})") from error


def _choose_level(names: Sequence[str], level: int | str) -> str | None:
    """The level with this name, otherwise at this position."""
    if str(level) in names:
        return str(level)
    position = int(level) if str(level).isdigit() else len(names)
    return names[position] if position < len(names) else None


def _positions(
    path: str, shape: Sequence[int], names: Sequence[str | None] | None, *, certain: bool = False
) -> dict[str, Any]:
    """Positions of the axes c, z, y and x of an array; `c` may be None.

    Args:
        path: for messages.
        shape: of the array.
        names: of its axes, or None.
        certain: whether they describe this array, so that z, y and x must be among them.

    Raises:
        DataError: no axis z, another number of axes, or another axis that is longer than 1.
    """
    count = len(shape)
    if names is not None and (not isinstance(names, list | tuple) or len(names) != count):
        raise DataError(f"{path} has shape {tuple(shape)}, but its metadata name the axes {names!r}")
    known = [str(name).lower() for name in names] if names is not None else []
    if certain and (not {"z", "y", "x"} <= set(known) or len(set(known)) < count):
        raise DataError(f"{path} has axes {known}; expected z, y and x, each once")
    if not {"z", "y", "x"} <= set(known):
        if names is not None and {"y", "x"} <= set(known):
            raise DataError(f"{path} has axes {known}; expected z, y and x")
        if count not in (3, 4, 5):
            raise DataError(f"{path} has shape {tuple(shape)}; expected (Z, Y, X) or (C, Z, Y, X)")
        known = list("tczyx")[5 - count :]
    for axis, size in zip(known, shape, strict=True):
        if axis not in ("c", "z", "y", "x") and size != 1:
            raise DataError(f"{path} has {size} entries along axis {axis!r}; expected one; extract it first")
    return {axis: known.index(axis) if axis in known else None for axis in "czyx"}


def _format_chunk_error(path: str, inside: str, index: Sequence[int], error: Exception) -> str:
    where = f"{path}/{inside}" if inside else path
    chunk = ".".join(map(str, index))
    if isinstance(error, OSError) or "aiohttp" in type(error).__module__:
        return f"{where}: chunk {chunk} cannot be read after all retries ({_brief(error)})"
    return f"{where}: chunk {chunk} is truncated or damaged ({_brief(error)}); copy it again from its origin"


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


ABSENT = np.uint64(2**64 - 1)
"""Offset and length of a missing inner chunk in a shard's index (zarr v3, sharding codec)."""


class Occupancy:
    """Finds which chunks of an array are stored, without reading values; asks once per chunk or shard.

    Args:
        array: an open `zarr.Array`.
        path: for messages.
    """

    def __init__(self, array: Any, path: str) -> None:
        self._array, self._path = array, path
        self._cache: dict[tuple[int, ...], bool | NDArray[Any]] = {}
        self._lock = threading.Lock()
        self._sharding = _sharding(array)

    def stored(self, index: tuple[int, ...]) -> bool:
        """Whether a chunk is stored (an inner chunk, in a sharded array)."""
        if self._array.shards is None:
            return bool(self._answer(index))
        ratio = [shard // chunk for shard, chunk in zip(self._array.shards, self._array.chunks, strict=True)]
        outer = tuple(i // n for i, n in zip(index, ratio, strict=True))
        answer = self._answer(outer)
        if isinstance(answer, bool):
            return answer
        return bool(answer[tuple(i % n for i, n in zip(index, ratio, strict=True))])

    def _answer(self, index: tuple[int, ...]) -> bool | NDArray[Any]:
        with self._lock:
            if index in self._cache:
                return self._cache[index]
        answer = self._ask(index)
        with self._lock:
            self._cache[index] = answer
        return answer

    def _ask(self, index: tuple[int, ...]) -> bool | NDArray[Any]:
        """Presence of an object; for a shard, presence of each inner chunk."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        store_path = self._array.store_path
        name = self._array.metadata.encode_chunk_key(index)
        key = f"{store_path.path}/{name}" if store_path.path else name
        if self._sharding is None:
            return bool(sync(store_path.store.exists(key)))
        count, wanted = self._sharding
        index_bytes = sync(store_path.store.get(key, default_buffer_prototype(), wanted))
        if index_bytes is None:
            return False
        return _present(index_bytes.to_bytes(), count)


def _present(index_bytes: bytes, count: tuple[int, ...]) -> bool | NDArray[Any]:
    """Presence of each inner chunk by the index of a shard; True (unknown) for an index of unexpected length."""
    size = 16 * int(np.prod(count))
    if len(index_bytes) < size:
        return True
    entries = np.frombuffer(index_bytes[:size], dtype="<u8").reshape(*count, 2)
    return ~(entries == ABSENT).all(axis=-1)


def _sharding(array: Any) -> tuple[tuple[int, ...], Any] | None:
    """Inner chunks per shard and byte range of its index; None without shards or for an index with other codecs.

    The index holds little-endian pairs of offset and length in C order, followed by a CRC32C (zarr v3 core
    specification, codec `sharding_indexed`).
    """
    from zarr.abc.store import RangeByteRequest, SuffixByteRequest

    if array.shards is None:
        return None
    codec = array.metadata.to_dict()["codecs"][0]
    settings = codec["configuration"]
    names = [entry["name"] for entry in settings["index_codecs"]]
    little = settings["index_codecs"][0].get("configuration", {}).get("endian", "little") == "little"
    if names not in (["bytes"], ["bytes", "crc32c"]) or not little:
        return None
    count = tuple(shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True))
    size = 16 * int(np.prod(count)) + (4 if "crc32c" in names else 0)
    at_start = str(settings.get("index_location", "end")) == "start"
    return count, RangeByteRequest(0, size) if at_start else SuffixByteRequest(size)
