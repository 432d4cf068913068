"""Which tiles there are, how large the memory lets them be, and which part owns which.

The unit of work: one tile of the output, walked down along z.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from seewhy.errors import ConfigError
from seewhy.io.zarr.source import Box
from seewhy.volumes.geometry import PatchGrid, box_of, clip, voxels
from seewhy.volumes.memory import Costs, Memory

__all__ = ["Plan", "Step", "Unit", "make_plan"]


class Step(NamedTuple):
    """All patches of one tile that start at one z."""

    z: int
    """Position along z."""
    ys: range
    xs: range
    final: int
    """Rows before this one are final once the step is added."""

    @property
    def patches(self) -> int:
        """How many they are."""
        return len(self.ys) * len(self.xs)


class Unit:
    """A box of the output that one part writes, and every patch that reaches into it.

    Patches across a border are computed on both sides of it, so that tiles know nothing of each other.

    Args:
        grid: positions over the whole volume.
        core: the voxels to write, whole shards of the output.
    """

    def __init__(self, grid: PatchGrid, core: Box) -> None:
        self.grid, self.core = grid, core
        spans = [grid.covering(axis, place.start, place.stop) for axis, place in enumerate(core)]
        self.zs, self.ys, self.xs = spans

    @property
    def count(self) -> int:
        """Patches of a walk from the top."""
        return len(self.zs) * len(self.ys) * len(self.xs)

    @property
    def window(self) -> Box:
        """The voxels inside the volume that its patches read."""
        first = [span[0] for span in (self.zs, self.ys, self.xs)]
        last = [span[-1] for span in (self.zs, self.ys, self.xs)]
        hull = zip(self.grid.box(first), self.grid.box(last), strict=True)
        starts, stops = zip(*((low.start, high.stop) for low, high in hull), strict=True)
        return clip(box_of(starts, stops), self.grid.shape)

    def steps(self, row: int | None = None) -> Iterator[Step]:
        """The walk along z from a row of the tile on.

        Args:
            row: rows before it are already written: patches that end before it are left out. The top where None.

        Yields:
            Steps in the order of z; the last one completes the tile.
        """
        top, bottom = self.core[0].start if row is None else row, self.core[0].stop
        if top >= bottom:
            return
        zs = self.grid.covering(0, top, bottom)
        for z in zs:
            following = self.grid.starts[0][z + 1] if z + 1 in zs else bottom
            yield Step(z, self.ys, self.xs, min(max(following, top), bottom))

    def __repr__(self) -> str:
        places = ", ".join(f"{axis.start}:{axis.stop}" for axis in self.core)
        return f"Unit([{places}], {self.count} patches, {voxels(self.core)} voxels)"


MOST_UNITS = 4096
"""Ways of cutting into more tiles than this and sixteen per part are not weighed."""


class Plan:
    """The tiles of a run and their owners.

    Args:
        costs: of memory.
        units: all tiles; together they are the region, without overlap.
        owners: per part the numbers of its tiles, in the order they are walked.
        region: the voxels that are written: those asked for, out to whole shards.
    """

    def __init__(self, *, costs: Costs, units: Sequence[Unit], owners: Sequence[Sequence[int]], region: Box) -> None:
        self.costs, self.units, self.owners, self.region = costs, tuple(units), owners, region

    @property
    def parts(self) -> int:
        """How many processes share the run."""
        return len(self.owners)

    def of(self, part: int) -> list[Unit]:
        """The tiles of one part."""
        return [self.units[index] for index in self.owners[part]]

    @property
    def memory(self) -> Memory:
        """Of the largest tile."""
        return max((_memory(self.costs, unit.core) for unit in self.units), key=lambda memory: memory.total)

    @property
    def patches(self) -> int:
        """Patches to predict, those at borders of tiles once for every tile, none skipped."""
        return sum(unit.count for unit in self.units)

    @property
    def needed(self) -> int:
        """Patches to predict if the region were one tile."""
        return Unit(self.costs.grid, self.region).count


def make_plan(
    costs: Costs,
    *,
    memory_budget: int,
    parts: int = 1,
    roi: Box | None = None,
    occupancy: Callable[[Box], float] | None = None,
) -> Plan:
    """Cut the volume into tiles and deal them out.

    Of all ways of cutting whose largest tile fits into the budget, the one is taken whose busiest part has the
    fewest patches to predict; of equals, the one with the fewest in all. Tiles are dealt largest first, each to the
    part that has least (Graham 1969), the same in every process.

    Args:
        costs: of memory.
        memory_budget: bytes that one process may use besides its networks and their activations.
        parts: processes that share the run.
        roi: the voxels to write; widened to whole shards. All of them where None.
        occupancy: share of a tile's patches, in [0, 1], that is expected to run; all where None.

    Raises:
        ConfigError: when not even a tile of one shard fits, or the region lies outside the volume.
    """
    region = _region(costs, roi)
    counts = [math.ceil((axis.stop - axis.start) / size) for axis, size in zip(region, costs.shard, strict=True)]
    best: tuple[tuple[float, float], list[Unit], list[list[int]]] | None = None
    for pieces_y, pieces_x in itertools.product(*(_pieces(count) for count in counts[1:])):
        tiles = _cut(costs, region, (1, pieces_y, pieces_x))
        if max(_memory(costs, core).total for core in tiles) > memory_budget:
            continue
        for pieces_z in _depths(counts[0], len(tiles), parts):
            cores = _cut(costs, region, (pieces_z, pieces_y, pieces_x))
            units = [Unit(costs.grid, core) for core in cores]
            total = sum(unit.count for unit in units)
            if best is not None and occupancy is None and (total / parts, total) >= best[0]:
                continue
            loads = [unit.count * (1.0 if occupancy is None else occupancy(unit.core)) for unit in units]
            owners, busiest = _deal(loads, parts)
            if best is None or (busiest, total) < best[0]:
                best = (busiest, total), units, owners
    if best is None:
        smallest = max(_memory(costs, core).total for core in _cut(costs, region, (1, *counts[1:])))
        raise ConfigError(
            f"memory_budget of {memory_budget / 1e6:.0f} MB: a tile of one shard {list(costs.shard)} takes "
            f"{smallest / 1e6:.0f} MB; raise it, or choose smaller shards, patches or batches"
        )
    return Plan(costs=costs, units=best[1], owners=best[2], region=region)


def _region(costs: Costs, roi: Box | None) -> Box:
    """The voxels asked for, out to whole shards or to the volume's end."""
    shape, shard = costs.grid.shape, costs.shard
    if roi is None:
        return box_of((0, 0, 0), shape)
    inside = clip(roi, shape)
    if any(axis.start >= axis.stop for axis in inside):
        asked = ", ".join(f"{axis.start}:{axis.stop}" for axis in roi)
        raise ConfigError(f"roi=[{asked}] lies outside the volume of {list(shape)} voxels")
    starts = [axis.start // size * size for axis, size in zip(inside, shard, strict=True)]
    stops = [-(-axis.stop // size) * size for axis, size in zip(inside, shard, strict=True)]
    return clip(box_of(starts, stops), shape)


def _cut(costs: Costs, region: Box, pieces: Sequence[int]) -> list[Box]:
    """Tiles, so many per axis and of whole shards, as even as they come, in the order z, y, x."""
    spans = []
    for axis, size, count in zip(region, costs.shard, pieces, strict=True):
        shards = -(-(axis.stop - axis.start) // size)
        edges = [axis.start + size * (shards * index // count) for index in range(count)] + [axis.stop]
        spans.append(list(itertools.pairwise(edges)))
    return [box_of((z[0], y[0], x[0]), (z[1], y[1], x[1])) for z, y, x in itertools.product(*spans)]


def _memory(costs: Costs, core: Box) -> Memory:
    window = Unit(costs.grid, core).window[1:]
    height, width = (axis.stop - axis.start for axis in core[1:])
    return costs.memory(height, width, [axis.stop - axis.start for axis in window])


def _pieces(count: int) -> list[int]:
    """Into how many pieces `count` shards may be cut: of several numbers with equally large pieces the smallest."""
    return sorted({-(-count // -(-count // pieces)) for pieces in range(1, count + 1)})


def _depths(count: int, columns: int, parts: int) -> list[int]:
    """Into how many pieces columns of `count` shards are worth cutting: one, or as many as feed all parts."""
    if parts == 1:
        return [1]
    most = max(MOST_UNITS, 16 * parts) // columns
    least = -(-parts // columns)
    cuts = {1, *(least * factor + extra for factor in (1, 2, 3, 4) for extra in (0, 1))}
    return sorted(cut for cut in cuts if cut <= min(count, max(1, most)))


def _deal(loads: Sequence[float], parts: int) -> tuple[list[list[int]], float]:
    """Owner lists of units, and the largest load of a part."""
    waiting = [(0.0, part) for part in range(parts)]
    owners: list[list[int]] = [[] for _ in range(parts)]
    for index in sorted(range(len(loads)), key=lambda index: (-loads[index], index)):
        load, part = heapq.heappop(waiting)
        owners[part].append(index)
        heapq.heappush(waiting, (load + loads[index], part))
    return [sorted(own) for own in owners], max(load for load, _ in waiting)
