"""What a run will cost, told before it starts."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.io.zarr.store import is_remote
from seewhy.volumes.geometry import split, voxels
from seewhy.volumes.memory import Memory, piece_rows
from seewhy.volumes.plan import Plan

__all__ = ["Estimate", "OccupancySource", "estimate"]

MOST_SAMPLES = 4096


class OccupancySource:
    """Where a volume holds anything but its fill value, told from which chunks exist, at a sample of places.

    Args:
        source: the volume.
        cell: of the grid on which it is asked, ZYX, e.g. a shard of the output.
    """

    def __init__(self, source: VolumeSource, cell: tuple[int, int, int]) -> None:
        shape = source.shape[1:]
        cells = math.prod(-(-n // s) for n, s in zip(shape, cell, strict=True))
        grow = max(1, math.ceil((cells / MOST_SAMPLES) ** (1 / 3)))
        self.cell = tuple(size * grow for size in cell)
        whole: Box = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
        counts = [-(-n // s) for n, s in zip(shape, self.cell, strict=True)]
        found = [source.occupied(_middle(box, cell)) for box in split(whole, self.cell)]
        self.found = np.array(found, dtype=bool).reshape(counts)

    def __call__(self, box: Box) -> float:
        """Share of a box's cells that hold anything, in [0, 1]."""
        places = tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.cell, strict=True)
        )
        return float(self.found[places].mean())


class Estimate(NamedTuple):
    """Costs of all parts together, where not said otherwise."""

    patches: int
    """That will be predicted at most; homogeneous ones are only known once read."""
    needed: int
    """Without tiles, so without patches that two tiles predict."""
    occupied: float | None
    """Share of the patches that is not skipped, as far as chunks tell; None where nobody asked them."""
    tiles: int
    parts: int
    chunk_reads: int
    read: int
    """Bytes of input after decompression, whole chunks; a pre-pass for statistics reads the volume once more."""
    written: int
    """Bytes of output before compression, without coarser levels."""
    memory: Memory
    """Of one process, besides networks."""
    seconds: float | None
    """Of the busiest part in its network; None where the time per patch is not known."""

    def lines(self) -> list[str]:
        """For people to read."""
        run = "" if self.occupied is None else f", {self.occupied:.0%} run"
        extra = self.patches / max(1, self.needed) - 1
        memory = ", ".join(f"{name} {_bytes(size)}" for name, size in self.memory._asdict().items())
        lines = [
            f"patches     {self.patches:,} ({extra:.1%} of them again at borders of tiles){run}",
            f"tiles       {self.tiles:,} for {self.parts} part(s)",
            f"read        {_bytes(self.read)} in {self.chunk_reads:,} chunks, uncompressed",
            f"write       {_bytes(self.written)}, uncompressed",
            f"memory      {_bytes(self.memory.total)} per process besides the network ({memory})",
        ]
        if self.seconds is not None:
            lines.append(f"time        {_time(self.seconds)} in the network of the busiest part")
        return lines


def estimate(
    plan: Plan,
    source: VolumeSource,
    *,
    seconds_per_patch: float | None = None,
    skip_empty: bool = True,
    keep_logits: bool = False,
) -> Estimate:
    """Say what a plan costs.

    Args:
        plan: tiles and owners.
        source: the volume; asked which chunks exist, not read.
        seconds_per_patch: measured time of the network, all folds and mirrors, per patch.
        skip_empty: whether empty patches are left out; without it, or far away, no chunk is asked for.
        keep_logits: whether the logits of all patches are stored instead of a result.
    """
    costs = plan.costs
    # One question per chunk would take a web server longer than the estimate is worth.
    occupancy = OccupancySource(source, costs.shard) if skip_empty and not is_remote(source.path) else None
    shares = [1.0 if occupancy is None else occupancy(unit.core) for unit in plan.units]
    piece = piece_rows(costs.grid, source.chunks)
    chunks = [_chunks(unit.window, source, piece) for unit in plan.units]
    loads = [unit.count * share for unit, share in zip(plan.units, shares, strict=True)]
    busiest = max(sum(loads[index] for index in own) for own in plan.owners)
    planes, itemsize = costs.head.planes or 1, costs.head.dtype.itemsize
    logits = math.prod(costs.grid.patch) * costs.head.channels * np.dtype(np.float16).itemsize
    return Estimate(
        patches=plan.patches,
        needed=plan.needed,
        occupied=None if occupancy is None else sum(loads) / plan.patches,
        tiles=len(plan.units),
        parts=plan.parts,
        chunk_reads=sum(count for count, _ in chunks),
        read=sum(size for _, size in chunks) * source.shape[0] * source.dtype.itemsize,
        written=round(sum(loads)) * logits if keep_logits else voxels(plan.region) * planes * itemsize,
        memory=plan.memory,
        seconds=None if seconds_per_patch is None else busiest * seconds_per_patch,
    )


def _middle(box: Box, cell: tuple[int, int, int]) -> Box:
    """One cell in the middle of a larger box."""
    z, y, x = (
        slice(low := max(axis.start, (axis.start + axis.stop - size) // 2), min(low + size, axis.stop))
        for axis, size in zip(box, cell, strict=True)
    )
    return z, y, x


def _chunks(window: Box, source: VolumeSource, piece: int) -> tuple[int, int]:
    """How many chunks a box touches, and their voxels; of a volume without chunks, how many pieces are read."""
    if math.prod(source.chunks) == 1:
        return -(-(window[0].stop - window[0].start) // piece), voxels(window)
    spans = [(axis.start // size, -(-axis.stop // size)) for axis, size in zip(window, source.chunks, strict=True)]
    sizes = [
        min(high * size, length) - low * size
        for (low, high), size, length in zip(spans, source.chunks, source.shape[1:], strict=True)
    ]
    return math.prod(high - low for low, high in spans), math.prod(sizes)


def _bytes(count: float) -> str:
    for unit in itertools.chain(("B", "kB", "MB", "GB", "TB"), itertools.repeat("PB")):
        if count < 1000 or unit == "PB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours:,} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
