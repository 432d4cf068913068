"""Which chunks of a zarr array are stored at all, told without reading a value."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Occupancy"]

ABSENT = np.uint64(2**64 - 1)
"""Offset and length of an inner chunk that a shard's index says is not there (zarr v3, sharding codec)."""


class Occupancy:
    """Asks a store once per chunk, or once per shard, and remembers the answers.

    Args:
        array: an open `zarr.Array`.
        path: for messages.
    """

    def __init__(self, array: Any, path: str) -> None:
        self._array, self._path = array, path
        self._known: dict[tuple[int, ...], bool | NDArray[Any]] = {}
        self._lock = threading.Lock()
        self._sharding = _sharding(array)

    def stored(self, index: tuple[int, ...]) -> bool:
        """Whether something is stored for a chunk (an inner one, in a sharded array)."""
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
            if index in self._known:
                return self._known[index]
        answer = self._ask(index)
        with self._lock:
            self._known[index] = answer
        return answer

    def _ask(self, index: tuple[int, ...]) -> bool | NDArray[Any]:
        """Presence of an object; of a shard, presence of each inner chunk."""
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
    """Which inner chunks the index of a shard names; True, as far as can be told, for one of another length."""
    size = 16 * int(np.prod(count))
    if len(index_bytes) < size:
        return True
    entries = np.frombuffer(index_bytes[:size], dtype="<u8").reshape(*count, 2)
    return ~(entries == ABSENT).all(axis=-1)


def _sharding(array: Any) -> tuple[tuple[int, ...], Any] | None:
    """Inner chunks per shard and where its index lies; None for arrays without shards or with an index of other codecs.

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
