"""Estimate what a run will read, write and take, before it starts."""

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
    """Estimates from the existing chunks which parts of a volume hold other values than its fill value, by sampling.

    Args:
        source: the volume.
        cell: cell of the sampling grid, ZYX, e.g. a shard of the output.
    """

    def __init__(self, source: VolumeSource, cell: tuple[int, int, int]) -> None:
        shape = source.shape[1:]
        cells = math.prod(-(-n // s) for n, s in zip(shape, cell, strict=True))
        grow = max(1, math.ceil((cells / MOST_SAMPLES) ** (1 / 3)))
        self.cell = tuple(size * grow for size in cell)
        whole: Box = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
        counts = [-(-n // s) for n, s in zip(shape, self.cell, strict=True)]
        occupied = [source.occupied(_middle(box, cell)) for box in split(whole, self.cell)]
        self.occupied = np.array(occupied, dtype=bool).reshape(counts)

    def __call__(self, box: Box) -> float:
        """Fraction of a box's cells that hold values, in [0, 1]."""
        cells = tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.cell, strict=True)
        )
        return float(self.occupied[cells].mean())


class Estimate(NamedTuple):
    """Costs of all expected processes together, unless stated otherwise."""

    patches: int
    """Maximum number of predicted patches; homogeneous ones are only detected when they are read."""
    needed: int
    """Number of patches without tiles, so without patches that two tiles predict."""
    occupied: float | None
    """Fraction of patches that are not skipped, according to the existing chunks; None if they were not checked."""
    tiles: int
    parts: int
    chunk_reads: int
    read: int
    """Bytes of input after decompression, whole chunks; a pre-pass for statistics reads the volume once more."""
    written: int
    """Bytes of output before compression, without coarser levels."""
    memory: Memory
    """Memory of one process without its networks."""
    seconds: float | None
    """Seconds in the network of each process, which share the work evenly; None if the time per patch is unknown."""

    def lines(self) -> list[str]:
        """Lines of text for the terminal."""
        run = "" if self.occupied is None else f", {self.occupied:.0%} run"
        extra = self.patches / max(1, self.needed) - 1
        memory = ", ".join(f"{name} {_bytes(size)}" for name, size in self.memory._asdict().items())
        lines = [
            f"patches     {self.patches:,} ({extra:.1%} of them repeated at borders of tiles){run}",
            f"tiles       {self.tiles:,} for {self.parts} process(es)",
            f"read        {_bytes(self.read)} in {self.chunk_reads:,} chunks, uncompressed",
            f"write       {_bytes(self.written)}, uncompressed",
            f"memory      {_bytes(self.memory.total)} per process without the network ({memory})",
        ]
        if self.seconds is not None:
            lines.append(f"time        {_time(self.seconds)} in the network of each process")
        return lines


def estimate(
    plan: Plan,
    source: VolumeSource,
    *,
    seconds_per_patch: float | None = None,
    skip_empty: bool = True,
    keep_logits: bool = False,
) -> Estimate:
    """Estimate the costs of a plan.

    Args:
        plan: tiles and units.
        source: the volume; only the existence of chunks is checked, nothing is read.
        seconds_per_patch: measured time of the network, all folds and mirrors, per patch.
        skip_empty: whether empty patches are skipped; otherwise, and for remote stores, chunks are not checked.
        keep_logits: whether the logits of all patches are stored instead of a result.
    """
    costs = plan.costs
    # One request per chunk would take longer than the estimate is worth.
    occupancy = OccupancySource(source, costs.shard) if skip_empty and not is_remote(source.path) else None
    spans = plan.spans
    shares = [1.0 if occupancy is None else occupancy(span.core) for span in spans]
    piece = piece_rows(costs.grid, source.chunks)
    chunks = [_chunks(span.window, source, piece) for span in spans]
    loads = [span.count * share for span, share in zip(spans, shares, strict=True)]
    planes, itemsize = costs.output_format.planes or 1, costs.output_format.dtype.itemsize
    logits = math.prod(costs.grid.patch) * costs.output_format.channels * np.dtype(np.float16).itemsize
    return Estimate(
        patches=sum(span.count for span in spans),
        needed=plan.needed,
        occupied=None if occupancy is None else sum(loads) / sum(span.count for span in spans),
        tiles=len(plan.tiles),
        parts=plan.parts,
        chunk_reads=sum(count for count, _ in chunks),
        read=sum(size for _, size in chunks) * source.shape[0] * source.dtype.itemsize,
        written=round(sum(loads)) * logits if keep_logits else voxels(plan.region) * planes * itemsize,
        memory=plan.memory,
        seconds=None if seconds_per_patch is None else sum(loads) * seconds_per_patch / plan.parts,
    )


def _middle(box: Box, cell: tuple[int, int, int]) -> Box:
    """One cell in the middle of a larger box."""
    z, y, x = (
        slice(low := max(axis.start, (axis.start + axis.stop - size) // 2), min(low + size, axis.stop))
        for axis, size in zip(box, cell, strict=True)
    )
    return z, y, x


def _chunks(window: Box, source: VolumeSource, piece: int) -> tuple[int, int]:
    """Number of chunks that overlap a box, and their voxels; for a volume without chunks, the number of reads."""
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
