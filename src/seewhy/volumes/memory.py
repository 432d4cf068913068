"""How much memory a tile takes, item by item.

Freed memory goes back to the system, so that a process is as large as what it holds.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.output_format import OutputFormat

__all__ = [
    "BATCHES_AHEAD",
    "GROUP",
    "PIECES",
    "SHARD_ROWS",
    "Costs",
    "Memory",
    "parse_bytes",
    "piece_rows",
    "return_freed_memory",
]

M_MMAP_THRESHOLD = -3
"""Name of the setting in glibc's malloc.h."""
LARGE = 2**20
"""Bytes from which a block is a mapping of its own."""
M_ARENA_MAX = -8


def return_freed_memory() -> bool:
    """Let blocks of 1 MiB and more be given back as soon as they are freed, in this process from now on.

    By default glibc raises the size of such blocks to that of the largest one freed, up to 32 MiB, and keeps smaller
    ones in a heap per thread. Threads that read, blend and write hand blocks to each other, so these heaps grow with
    the length of a volume although what is held does not; smaller blocks come from one heap from now on. Only glibc
    needs it; elsewhere, and where the environment sets the threshold itself, nothing happens.

    Returns:
        Whether it is in force.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(M_ARENA_MAX, 1) and mallopt(M_MMAP_THRESHOLD, LARGE))


BATCHES_AHEAD = 2
"""Batches that wait for the network."""
PIECES = 2
"""Pieces of input in flight besides the ring: one being read, one being copied."""
SHARD_ROWS = 3
"""Rows of output shards at a time: one being filled, one waiting, one being written."""
GROUP = 1 << 20
"""Voxels that are turned from logits into stored numbers at a time on a processor."""


class Memory(NamedTuple):
    """Bytes of one process besides its networks and their activations."""

    accumulator: int
    """Rolling float32 logits; on the GPU where they fit."""
    input: int
    """Ring of input rows, and the pieces that are being read."""
    batches: int
    """Patches that wait, and the logits of one batch."""
    output: int
    """Rows of shards until they are written, and numbers on the way to them."""

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(self)


class Costs(NamedTuple):
    """What memory depends on besides the tile."""

    grid: PatchGrid
    head: OutputFormat
    channels: int
    """Of the input."""
    itemsize: int
    """Bytes of one input value."""
    chunks: tuple[int, int, int]
    """Of the input."""
    shard: tuple[int, int, int]
    """Of the output."""
    batch_size: int

    def memory(self, height: int, width: int, window: Sequence[int]) -> Memory:
        """Of a tile of `height` x `width` whose patches read `window` rows and columns of the input."""
        patch, planes = self.grid.patch, self.head.planes or 1
        area, patch_voxels = height * width, math.prod(patch)
        rows = patch[0] + piece_rows(self.grid, self.chunks)
        pieces = PIECES * piece_rows(self.grid, self.chunks)
        per_patch = 4 * patch_voxels * ((BATCHES_AHEAD + 2) * self.channels + self.head.channels)
        group = min(max(GROUP, area), patch[0] * area) * 4 * (2 * self.head.channels + 2)
        return Memory(
            accumulator=4 * self.head.channels * patch[0] * area,
            input=self.channels * self.itemsize * (rows + pieces) * math.prod(window),
            batches=self.batch_size * per_patch + 4 * patch_voxels * (self.head.channels + 1),
            output=SHARD_ROWS * planes * self.head.dtype.itemsize * self.shard[0] * area + group,
        )


def piece_rows(grid: PatchGrid, chunks: Sequence[int]) -> int:
    """Rows of input that are read at a time: whole chunks, as near to one step of the patches as they come."""
    starts = grid.starts[0]
    step = max(1, round((starts[-1] - starts[0]) / (len(starts) - 1))) if len(starts) > 1 else grid.patch[0]
    return min(chunks[0] * max(1, round(step / chunks[0])), max(grid.shape[0], 1))


def parse_bytes(text: str | int | float) -> int:
    """Bytes of ``"8 GB"``, ``"512MiB"`` or a plain number.

    Raises:
        ConfigError: for anything else.
    """
    import re

    from seewhy.errors import ConfigError

    found = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kmgt]?)(i?)b?\s*", str(text), re.IGNORECASE)
    try:
        assert found
        number = float(found[1])
    except (AssertionError, ValueError):
        raise ConfigError(f"memory_budget={text!r}: expected bytes, e.g. 8GB, 512MiB or 2e9") from None
    power = " kmgt".index(found[2].lower() or " ")
    return int(number * (1024 if found[3] else 1000) ** power)
