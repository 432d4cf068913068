"""Divide a volume into tiles that fit into memory, and assign the tiles to the parts of a run."""

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

__all__ = ["Plan", "Step", "Tile", "make_plan"]


class Step(NamedTuple):
    """All patches of one tile that start at one z."""

    z: int
    """Position along z."""
    ys: range
    xs: range
    final: int
    """Rows before this one are final after the step."""

    @property
    def patches(self) -> int:
        """Number of patches."""
        return len(self.ys) * len(self.xs)


class Tile:
    """A box of the output that one part writes, walked down along z, with every patch that overlaps it.

    Patches across a border are computed for both tiles, so tiles are independent of each other.

    Args:
        grid: positions over the whole volume.
        core: voxels to write, whole shards of the output.
    """

    def __init__(self, grid: PatchGrid, core: Box) -> None:
        self.grid, self.core = grid, core
        spans = [grid.covering(axis, part.start, part.stop) for axis, part in enumerate(core)]
        self.zs, self.ys, self.xs = spans

    @property
    def count(self) -> int:
        """Number of patches."""
        return len(self.zs) * len(self.ys) * len(self.xs)

    @property
    def window(self) -> Box:
        """Voxels inside the volume that the patches read."""
        first = [span[0] for span in (self.zs, self.ys, self.xs)]
        last = [span[-1] for span in (self.zs, self.ys, self.xs)]
        hull = zip(self.grid.box(first), self.grid.box(last), strict=True)
        starts, stops = zip(*((low.start, high.stop) for low, high in hull), strict=True)
        return clip(box_of(starts, stops), self.grid.shape)

    def steps(self, row: int | None = None) -> Iterator[Step]:
        """Walk along z, starting at a row of the tile.

        Args:
            row: rows before it are already written, so patches that end before it are skipped; None starts at the
                top.

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
        return f"Tile([{places}], {self.count} patches, {voxels(self.core)} voxels)"


MOST_TILES = 4096
"""Divisions into more tiles than this and sixteen per part are not considered."""


MOST_VOXELS = 1 << 44
"""Largest region; at a million voxels per second it takes half a year."""


class Plan:
    """The tiles of a run and their owners.

    Args:
        costs: memory costs.
        tiles: all tiles, which cover the region without overlap.
        owners: per part the indices of its tiles, in the order they are walked.
        region: voxels that are written: the requested ones, extended to whole shards.
    """

    def __init__(self, *, costs: Costs, tiles: Sequence[Tile], owners: Sequence[Sequence[int]], region: Box) -> None:
        self.costs, self.tiles, self.owners, self.region = costs, tuple(tiles), owners, region

    @property
    def parts(self) -> int:
        """Number of processes that share the run."""
        return len(self.owners)

    def of(self, part: int) -> list[Tile]:
        """Tiles of one part."""
        return [self.tiles[index] for index in self.owners[part]]

    @property
    def memory(self) -> Memory:
        """Memory of the largest tile."""
        return max((_memory(self.costs, tile.core) for tile in self.tiles), key=lambda memory: memory.total)

    @property
    def patches(self) -> int:
        """Patches to predict without skipping; those at borders of tiles count once for every tile."""
        return sum(tile.count for tile in self.tiles)

    @property
    def needed(self) -> int:
        """Patches to predict if the region were a single tile."""
        return Tile(self.costs.grid, self.region).count


def make_plan(
    costs: Costs,
    *,
    memory_budget: int,
    parts: int = 1,
    roi: Box | None = None,
    occupancy: Callable[[Box], float] | None = None,
) -> Plan:
    """Divide the volume into tiles and assign them to parts.

    Of all divisions whose largest tile fits into the budget, choose the one whose busiest part has the fewest patches
    to predict; on a tie, the one with the fewest patches in total. Tiles are assigned in descending order of size, each
    to the part with the smallest load (Graham 1969); every process computes the same plan.

    Args:
        costs: memory costs.
        memory_budget: bytes that one process may use in addition to its networks and their activations.
        parts: processes that share the run.
        roi: voxels to write, extended to whole shards; None writes all.
        occupancy: expected fraction of a tile's patches that are not skipped, in [0, 1]; None expects all.

    Raises:
        ConfigError: a tile of one shard does not fit into the budget, or the region lies outside the volume.
    """
    region = _region(costs, roi)
    if voxels(region) > MOST_VOXELS:
        raise ConfigError(
            f"the region has {voxels(region):.1e} voxels, more than can be predicted ({MOST_VOXELS:.1e}); "
            "choose a smaller one with volume.roi, or a coarser level with volume.level"
        )
    counts = [math.ceil((axis.stop - axis.start) / size) for axis, size in zip(region, costs.shard, strict=True)]
    best: tuple[tuple[float, float], list[Tile], list[list[int]]] | None = None
    for pieces_y, pieces_x in itertools.product(*(_pieces(count) for count in counts[1:])):
        columns = _cut_region(costs, region, (1, pieces_y, pieces_x))
        if max(_memory(costs, core).total for core in columns) > memory_budget:
            continue
        for pieces_z in _depths(counts[0], len(columns), parts):
            tiles = [Tile(costs.grid, core) for core in _cut_region(costs, region, (pieces_z, pieces_y, pieces_x))]
            total = sum(tile.count for tile in tiles)
            if best is not None and occupancy is None and (total / parts, total) >= best[0]:
                continue
            loads = [tile.count * (1.0 if occupancy is None else occupancy(tile.core)) for tile in tiles]
            owners, busiest = _assign(loads, parts)
            if best is None or (busiest, total) < best[0]:
                best = (busiest, total), tiles, owners
    if best is None:
        smallest = max(_memory(costs, core).total for core in _cut_region(costs, region, (1, *counts[1:])))
        raise ConfigError(
            f"memory_budget of {memory_budget / 1e6:.0f} MB: a tile of one shard {list(costs.shard)} needs "
            f"{smallest / 1e6:.0f} MB; raise it, or choose smaller shards, patches or batches"
        )
    return Plan(costs=costs, tiles=best[1], owners=best[2], region=region)


def _region(costs: Costs, roi: Box | None) -> Box:
    """The requested voxels, extended to whole shards or to the volume's end."""
    shape, shard = costs.grid.shape, costs.shard
    if roi is None:
        return box_of((0, 0, 0), shape)
    inside = clip(roi, shape)
    if any(axis.start >= axis.stop for axis in inside):
        requested = ", ".join(f"{axis.start}:{axis.stop}" for axis in roi)
        raise ConfigError(f"roi=[{requested}] lies outside the volume of {list(shape)} voxels")
    starts = [axis.start // size * size for axis, size in zip(inside, shard, strict=True)]
    stops = [-(-axis.stop // size) * size for axis, size in zip(inside, shard, strict=True)]
    return clip(box_of(starts, stops), shape)


def _cut_region(costs: Costs, region: Box, pieces: Sequence[int]) -> list[Box]:
    """Divide a region into `pieces` tiles per axis of whole shards, as even as possible, in the order z, y, x."""
    spans = []
    for axis, size, count in zip(region, costs.shard, pieces, strict=True):
        shards = -(-(axis.stop - axis.start) // size)
        edges = [axis.start + size * (shards * index // count) for index in range(count)] + [axis.stop]
        spans.append(list(itertools.pairwise(edges)))
    return [box_of((z[0], y[0], x[0]), (z[1], y[1], x[1])) for z, y, x in itertools.product(*spans)]


def _memory(costs: Costs, core: Box) -> Memory:
    window = Tile(costs.grid, core).window[1:]
    height, width = (axis.stop - axis.start for axis in core[1:])
    return costs.memory(height, width, [axis.stop - axis.start for axis in window])


def _pieces(count: int) -> list[int]:
    """Numbers of pieces for `count` shards; of several with the same largest piece, only the smallest number."""
    return sorted({-(-count // -(-count // pieces)) for pieces in range(1, count + 1)})


def _depths(count: int, columns: int, parts: int) -> list[int]:
    """Numbers of pieces along z for columns of `count` shards: 1, or enough to occupy all parts."""
    if parts == 1:
        return [1]
    most = max(MOST_TILES, 16 * parts) // columns
    least = -(-parts // columns)
    cuts = {1, *(least * factor + extra for factor in (1, 2, 3, 4) for extra in (0, 1))}
    return sorted(cut for cut in cuts if cut <= min(count, max(1, most)))


def _assign(loads: Sequence[float], parts: int) -> tuple[list[list[int]], float]:
    """Assign tiles to parts: indices of each part's tiles, and the largest load of a part."""
    waiting = [(0.0, part) for part in range(parts)]
    owners: list[list[int]] = [[] for _ in range(parts)]
    for index in sorted(range(len(loads)), key=lambda index: (-loads[index], index)):
        load, part = heapq.heappop(waiting)
        owners[part].append(index)
        heapq.heappush(waiting, (load + loads[index], part))
    return [sorted(tiles) for tiles in owners], max(load for load, _ in waiting)
