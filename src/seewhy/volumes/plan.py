"""Which tiles there are, how large the memory lets them be, and which part owns which."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

from seewhy.errors import ConfigError
from seewhy.io.volume_base import Box
from seewhy.volumes.box import box_of, clip
from seewhy.volumes.memory import Costs, Memory
from seewhy.volumes.unit import Unit

__all__ = ["Plan", "make_plan"]

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
