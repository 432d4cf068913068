"""Read and rewrite the file of an offline W&B run: records in blocks of 32 KiB, as in LevelDB's log.

W&B has no way to take back rows of an offline run, which a continued training logs again. Each block holds chunks of a
CRC32, a length, a kind (whole, first, middle or last part) and the bytes; a record is a protocol buffer.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path

__all__ = ["drop_history_from", "read_records"]

BLOCK = 32768
HEADER = 7
"""Bytes before the first chunk, and before the bytes of every chunk."""
IDENT = b":W&B"
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
AXIS = "trainer/global_step"
"""Name of the number that counts the steps."""


def read_records(path: Path) -> Iterator[Any]:
    """Read the records of a file up to the first that is damaged: the last one of a killed run is cut off.

    Raises:
        DataError: the file is not that of a W&B run.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    for data in _read_bytes(path.read_bytes(), path):
        record = Record()
        record.ParseFromString(data)
        yield record


def drop_history_from(path: Path, step: int) -> int:
    """Remove the rows of a run's history from a step on.

    Args:
        path: the file, `run-<id>.wandb`; other records stay as they are.
        step: value of `AXIS`.

    Returns:
        Number of removed rows; 0 leaves the file untouched.
    """
    kept, dropped = [], 0
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history" and _read_step(record.history) >= step:
            dropped += 1
        else:
            kept.append(record.SerializeToString())
    if dropped:
        with path.open("rb") as file:
            start = file.read(HEADER)
        with atomic_path(path) as temporary:
            temporary.write_bytes(_join_chunks(start, kept))
    return dropped


def _read_step(history: Any) -> float:
    """Return the step of a row, or minus infinity for a row without one."""
    for item in history.item:
        if AXIS in ("/".join(item.nested_key), item.key):
            return float(json.loads(item.value_json))
    return float("-inf")


def _read_bytes(data: bytes, path: Path) -> Iterator[bytes]:
    if data[:4] != IDENT:
        raise DataError(f"{path} is not the file of a W&B run")
    position, parts = HEADER, []
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:  # too little for a chunk: the block ends with zeros
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        part = data[position + HEADER : position + HEADER + length]
        if kind not in (WHOLE, FIRST, MIDDLE, LAST) or checksum != zlib.crc32(bytes([kind]) + part):
            return
        parts.append(part)
        position += HEADER + length
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
            parts = []


def _join_chunks(start: bytes, records: Iterable[bytes]) -> bytes:
    out = bytearray(start)
    for record in records:
        first = True
        while first or record:
            left = BLOCK - len(out) % BLOCK
            if left < HEADER:
                out += bytes(left)
                left = BLOCK
            part, record = record[: left - HEADER], record[left - HEADER :]
            kind = (WHOLE if not record else FIRST) if first else (LAST if not record else MIDDLE)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
    return bytes(out)
