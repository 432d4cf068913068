"""Output store of a prediction: a zarr store that is written in whole shards, each of them once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder
from seewhy.io.zarr.existing import has_array, is_there, read_mark, remove, remove_unfinished, writing
from seewhy.io.zarr.layout import VolumeLayout, positive_triple
from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.io.zarr.store import BOOKKEEPING, CountedStore, Counters, WholeStore, local_folder, open_store
from seewhy.io.zarr.writer import build_pyramid, build_shard, create_level, initialize_store, write_metadata

__all__ = ["VolumeSink", "create_sink", "open_sink", "plan_sink", "write_part"]

CHUNK = 64
"""Voxels of a chunk, along each axis, of a store that is written at once."""


class VolumeSink:
    """An output store, written to by several threads and opened again in every process.

    Attributes:
        path: of the store.
        layout: shapes, types and names.
        attributes: plain data about the result (scale of the values, model, …).
        counters: amount written so far in this process.
        bookkeeping: folder for the ledger inside a local store; None for a remote one.
        identity: drawn when the store is created: a new store at the same path has another; None before `create`.
        finished: whether it was complete when it was opened.
        is_new: whether `create` has just made the store.
    """

    def __init__(
        self,
        path: str,
        *,
        layout: VolumeLayout,
        attributes: Mapping[str, Any],
        options: Mapping[str, Any],
        identity: str | None = None,
        finished: bool = False,
    ) -> None:
        self.path, self.layout, self.attributes = path, layout, dict(attributes)
        self.identity, self.finished, self.is_new = identity, finished, False
        self.counters = Counters()
        self._options = dict(options)
        self._arrays: dict[tuple[int, bool], Any] = {}
        self._process = -1
        folder = local_folder(path)
        self.bookkeeping = None if folder is None else folder / BOOKKEEPING

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X), or (K, Z, Y, X)."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return np.dtype(self.layout.dtype)

    @property
    def shard(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the smallest write."""
        return self.layout.shard

    @property
    def chunk(self) -> tuple[int, int, int]:
        """(Z, Y, X) that a reader decompresses."""
        return self.layout.chunk

    @property
    def image(self) -> str:
        """Path of the pyramid's group: the store itself, or its `labels/<name>`."""
        return f"{self.path}/{self.layout.group}".rstrip("/")

    def create(self, *, overwrite: bool = False, exist_ok: bool = False) -> bool:
        """Create the store; if several processes try at once, one creates it and the others join it.

        Args:
            overwrite: replace an existing output of seewhy; never anything else.
            exist_ok: use an existing output of seewhy with this layout.

        Returns:
            Whether it is new.

        Raises:
            ConfigError: the path holds something else, or an output of seewhy without `overwrite` or `exist_ok`.
            DataError: the store cannot be written.
        """
        if is_there(self.path, self._options):
            present = open_sink(self.path, options=self._options)
            if exist_ok and not overwrite:
                return self._join(present)
            if not overwrite:
                raise ConfigError(f"{self.path} already holds a result; choose another path, or set overwrite=true")
            remove(self.path, self._options)
        self.identity = uuid.uuid4().hex
        try:
            _create(self)
        except DataError:
            if not exist_ok or not is_there(self.path, self._options):
                raise
            return self._join(open_sink(self.path, options=self._options))  # another process was faster
        self.is_new = True
        return True

    def _join(self, present: VolumeSink) -> bool:
        """Use the existing store, and complete what a kill has left out."""
        differences = self.layout.differences(present.layout)
        if differences:
            raise ConfigError(f"{self.path} holds a result of another layout: {'; '.join(differences)}")
        self.identity = present.identity
        if not has_array(self.path, self.layout.array(0), self._options):
            _create(self)
        return False

    def write(self, box: Box, block: NDArray[Any]) -> None:
        """Write whole shards, or shards that end with the volume.

        Nothing is read: the previous content of a shard is replaced.

        Args:
            box: starts and ends at shard borders or at the volume's end.
            block: [z, y, x] or [K, z, y, x] of the store's type.

        Raises:
            ValueError: part of a shard, another shape or another type.
            DataError: the store cannot be written; what was written before is kept.
        """
        for axis, part, size, shard in zip("ZYX", box, self.layout.space, self.shard, strict=True):
            whole = part.start % shard == 0 and (part.stop % shard == 0 or part.stop == size)
            if not whole or not 0 <= part.start < part.stop <= size:
                raise ValueError(
                    f"{axis} {part.start}:{part.stop} is not a whole number of shards of {shard} in 0:{size}"
                )
        expected = (*self.shape[:-3], *(part.stop - part.start for part in box))
        if block.shape != expected or block.dtype != self.dtype:
            raise ValueError(f"block {block.dtype}{block.shape}; expected {self.dtype}{expected}")
        with writing(self.path):
            self._open()[(..., *box)] = block

    @property
    def levels(self) -> int:
        """Coarser levels, each of which has half as many voxels along each axis."""
        return len(self.layout.level_shapes()) - 1

    def build_part(self, level: int, index: tuple[int, int, int]) -> None:
        """Build one shard of a coarser level from the level before; may be repeated.

        Memory stays at about one shard, whatever the volume's size.

        Args:
            level: 1 is made of what was written.
            index: of the shard, ZYX.

        Raises:
            DataError: the store cannot be read or written.
        """
        with writing(self.path):
            build_shard(self._open(level - 1, read=True), self._open(level), index, self.layout)

    def seal(self) -> None:
        """Describe the coarser levels, and mark the output as finished; may be repeated.

        Raises:
            DataError: the store cannot be written.
        """
        with writing(self.path):
            remove_unfinished(self.path)
            write_metadata(WholeStore.over(self._store()), self.layout, self.attributes, self.identity, finished=True)

    def finish(self) -> None:
        """Build all coarser levels in this process, and seal the output; may be repeated.

        Raises:
            DataError: the store cannot be read or written.
        """
        with writing(self.path):
            build_pyramid(self._store(), WholeStore.over(self._store()), self.layout)
        self.seal()

    def reopen(self) -> None:
        """Do nothing: level 0 can always be written to, and the coarser levels are built again over what is new."""

    def _store(self) -> CountedStore:
        return open_store(self.path, read_only=False, counters=self.counters, options=self._options)

    def _open(self, level: int = 0, *, read: bool = False) -> Any:
        """The array of a level, opened once per process; a coarser level is created if it is missing."""
        if self._process != os.getpid():
            self._arrays, self._process = {}, os.getpid()
        if (level, read) not in self._arrays:
            import zarr

            store = self._store() if read else WholeStore.over(self._store())
            self._arrays[level, read] = (
                create_level(store, self.layout, level, overwrite=False)
                if level and not read
                else zarr.open_array(store=store, path=self.layout.array(level), mode="r" if read else "r+")
            )
        return self._arrays[level, read]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}, "_process": -1}

    def __repr__(self) -> str:
        return f"VolumeSink({self.path!r}, shape={self.shape}, dtype={self.dtype.name}, shard={self.shard})"


def plan_sink(
    path: str | Path,
    *,
    shape: Sequence[int],
    dtype: DTypeLike,
    shard: Sequence[int],
    chunk: Sequence[int],
    zarr_format: int = 3,
    spacing: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    unit: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    labels: bool = False,
    name: str = "prediction",
    classes: Mapping[int, str] | None = None,
    fill_value: float = 0,
    options: Mapping[str, Any] | None = None,
) -> VolumeSink:
    """Describe an output store without writing anything; its `create` creates it.

    Args:
        path: folder or address, usually ending in `.zarr`.
        shape: (Z, Y, X), or (K, Z, Y, X) with channels.
        dtype: of the stored values.
        shard: (Z, Y, X) of one write, which has one owner.
        chunk: (Z, Y, X) that a reader decompresses; must divide `shard`.
        zarr_format: 3, or 2 (where each chunk of a shard is a separate object).
        spacing: along Z, Y and X.
        translation: position of the first voxel.
        unit: of both, by its UDUNITS name.
        attributes: plain data for the root's attribute `seewhy`, e.g. the scale of the values.
        labels: integers under `labels/<name>` instead of an image in the root.
        name: of the image or the labels.
        classes: names of the labels by value; 0 is background.
        fill_value: value of voxels that are never written.
        options: as for `open_store`.

    Raises:
        ConfigError: a layout that cannot be stored.
    """
    layout = VolumeLayout(
        shape=tuple(int(size) for size in shape),
        dtype=np.dtype(dtype).name,
        shard=positive_triple(shard, "shard"),
        chunk=positive_triple(chunk, "chunk"),
        zarr_format=zarr_format,
        spacing=_to_floats(spacing),
        translation=_to_floats(translation),
        unit=unit,
        labels=labels,
        name=name,
        fill_value=fill_value,
        classes=dict(classes or {}),
    )
    return VolumeSink(str(path).rstrip("/"), layout=layout, attributes=attributes or {}, options=options or {})


def create_sink(path: str | Path, *, overwrite: bool = False, exist_ok: bool = False, **description: Any) -> VolumeSink:
    """Create an output store; a local one appears complete under its name or not at all.

    Args:
        path: folder or address, usually ending in `.zarr`.
        overwrite: as for `VolumeSink.create`.
        exist_ok: as for `VolumeSink.create`.
        description: all arguments of `plan_sink`.

    Raises:
        ConfigError: as `plan_sink` and `VolumeSink.create`.
        DataError: the store cannot be written.
    """
    sink = plan_sink(path, **description)
    sink.create(overwrite=overwrite, exist_ok=exist_ok)
    return sink


def write_part(
    path: str | Path, values: NDArray[Any], *, source: VolumeSource, box: Box, **description: Any
) -> VolumeSink:
    """Write an array [Z, Y, X] as a store that lies on a box of a volume; an existing store is replaced.

    Args:
        path: of the store.
        values: of the voxels in the box.
        source: the volume.
        box: in it.
        description: further arguments of `plan_sink`.

    Raises:
        SeewhyError: as `create_sink`.
    """
    steps, first = source.spacing or (1.0, 1.0, 1.0), source.translation or (0.0, 0.0, 0.0)
    sink = create_sink(
        path,
        shape=values.shape,
        dtype=values.dtype,
        chunk=(CHUNK,) * 3,
        shard=tuple(-(-size // CHUNK) * CHUNK for size in values.shape),
        spacing=source.spacing,
        translation=[low + part.start * step for low, part, step in zip(first, box, steps, strict=True)],
        unit=source.unit,
        overwrite=True,
        **description,
    )
    z, y, x = values.shape
    sink.write((slice(0, z), slice(0, y), slice(0, x)), values)
    sink.finish()
    return sink


def open_sink(path: str | Path, *, options: Mapping[str, Any] | None = None) -> VolumeSink:
    """Open an output that `create_sink` created.

    Raises:
        ConfigError: the path holds nothing, or something that seewhy did not create.
    """
    address = str(path).rstrip("/")
    mark = read_mark(address, options)
    if mark is None:
        raise ConfigError(f"{address} exists and was not created by seewhy, so it is not changed; choose another path")
    return VolumeSink(
        address,
        layout=VolumeLayout.from_record(mark["layout"]),
        attributes=mark["attributes"],
        options=options or {},
        identity=mark.get("id"),
        finished=bool(mark.get("finished", False)),
    )


def _create(sink: VolumeSink) -> None:
    """Write level 0 and all metadata; a local store is written under a temporary name and renamed."""
    folder = local_folder(sink.path)
    with writing(sink.path):
        if folder is None:
            initialize_store(sink._store(), sink.layout, sink.attributes, sink.identity)
            return
        with atomic_folder(folder) as temporary:
            store = open_store(str(temporary), read_only=False, counters=Counters())
            initialize_store(store, sink.layout, sink.attributes, sink.identity)
            (temporary / BOOKKEEPING).mkdir()


def _to_floats(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    z, y, x = (float(value) for value in values)
    return z, y, x
