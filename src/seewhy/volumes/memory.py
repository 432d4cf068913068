"""Memory of a tile, item by item, and settings that return freed memory to the system."""

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
    "piece_rows",
    "return_freed_memory",
]

M_MMAP_THRESHOLD = -3
"""Parameter of `mallopt` in glibc's malloc.h."""
LARGE = 2**20
"""Bytes from which a block gets its own memory mapping."""
M_ARENA_MAX = -8


def return_freed_memory() -> bool:
    """Return blocks of 1 MiB and more to the system as soon as they are freed, from now on in this process.

    By default glibc raises this threshold to the size of the largest block that was freed, up to 32 MiB, and keeps
    smaller blocks in one heap per thread. Threads that read, blend and write pass blocks to each other, so these heaps
    grow with the length of a volume although the used memory does not (`benchmarks/volume.py`: 144 MiB instead of 110
    for a long volume). Smaller blocks come from a single heap from now on. Only glibc needs this; elsewhere, and if the
    environment sets the threshold, nothing happens.

    Returns:
        Whether the settings were applied.
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
"""Pieces of input in flight in addition to the ring: one being read, one being copied."""
SHARD_ROWS = 3
"""Rows of output shards in memory: one being filled, one waiting, one being written."""
GROUP = 1 << 20
"""Voxels that are converted from logits to stored numbers at a time on a CPU."""


class Memory(NamedTuple):
    """Bytes of one process without its networks and their activations."""

    accumulator: int
    """Rolling float32 logits; on the GPU if they fit."""
    input: int
    """Ring of input rows, and the pieces that are being read."""
    batches: int
    """Waiting patches, and the logits of one batch."""
    output: int
    """Rows of shards until they are written, and numbers being converted."""

    @property
    def total(self) -> int:
        """Sum of all items."""
        return sum(self)


class Costs(NamedTuple):
    """Quantities besides the tile that memory depends on."""

    grid: PatchGrid
    output_format: OutputFormat
    channels: int
    """Channels of the input."""
    itemsize: int
    """Bytes of one input value."""
    chunks: tuple[int, int, int]
    """Chunks of the input, ZYX."""
    shard: tuple[int, int, int]
    """Shard of the output, ZYX."""
    batch_size: int

    def memory(self, height: int, width: int, window: Sequence[int]) -> Memory:
        """Memory of a tile of `height` x `width` whose patches read `window` rows and columns of the input."""
        patch, planes = self.grid.patch, self.output_format.planes or 1
        area, patch_voxels = height * width, math.prod(patch)
        rows = patch[0] + piece_rows(self.grid, self.chunks)
        pieces = PIECES * piece_rows(self.grid, self.chunks)
        per_patch = 4 * patch_voxels * ((BATCHES_AHEAD + 2) * self.channels + self.output_format.channels)
        group = min(max(GROUP, area), patch[0] * area) * 4 * (2 * self.output_format.channels + 2)
        return Memory(
            accumulator=4 * self.output_format.channels * patch[0] * area,
            input=self.channels * self.itemsize * (rows + pieces) * math.prod(window),
            batches=self.batch_size * per_patch + 4 * patch_voxels * (self.output_format.channels + 1),
            output=SHARD_ROWS * planes * self.output_format.dtype.itemsize * self.shard[0] * area + group,
        )


def piece_rows(grid: PatchGrid, chunks: Sequence[int]) -> int:
    """Rows of input per read: whole chunks, as close as possible to one step of the patches."""
    starts = grid.starts[0]
    step = max(1, round((starts[-1] - starts[0]) / (len(starts) - 1))) if len(starts) > 1 else grid.patch[0]
    return min(chunks[0] * max(1, round(step / chunks[0])), max(grid.shape[0], 1))
