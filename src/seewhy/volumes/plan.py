"""Divide a volume into tiles that fit into memory, and the tiles into units that processes claim."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
    """A box of the output, walked down along z, with every patch that overlaps it.

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

    def __repr__(self) -> str:
        places = ", ".join(f"{axis.start}:{axis.stop}" for axis in self.core)
        return f"Tile([{places}], {self.count} patches, {voxels(self.core)} voxels)"


MOST_UNITS = 65536
"""Divisions into more units than this and sixteen per process are not considered."""
MOST_VOXELS = 1 << 44
"""Largest region; at a million voxels per second it takes half a year."""


class Plan:
    """The tiles of a run: columns over the whole height of the region, each divided into units of one row of shards.

    A unit is what a process claims (see `seewhy.volumes.engine.work`); a process walks down a column from unit to unit.

    Args:
        costs: memory costs.
        tiles: columns, which cover the region without overlap.
        region: voxels that are written: the requested ones, extended to whole shards.
        parts: processes that are expected to share the run.
        budget: bytes that a process may use for a tile; columns of other processes are used up to it.
    """

    def __init__(
        self, *, costs: Costs, tiles: Sequence[Tile], region: Box, parts: int = 1, budget: int | None = None
    ) -> None:
        self.costs, self.tiles, self.region, self.parts = costs, tuple(tiles), region, parts
        self.budget = self.memory.total if budget is None else budget

    @property
    def rows(self) -> int:
        """Units of each tile."""
        return -(-(self.region[0].stop - self.region[0].start) // self.costs.shard[0])

    def unit(self, tile: int, row: int) -> Box:
        """Voxels of a unit."""
        depth, whole = self.costs.shard[0], self.region[0]
        start = whole.start + row * depth
        return (slice(start, min(start + depth, whole.stop)), *self.tiles[tile].core[1:])

    def row_of(self, voxel: int) -> int:
        """Number of the unit that holds a row of voxels."""
        return (voxel - self.region[0].start) // self.costs.shard[0]

    @property
    def memory(self) -> Memory:
        """Memory of the largest tile."""
        return max((_memory(self.costs, tile.core) for tile in self.tiles), key=lambda memory: memory.total)

    @property
    def spans(self) -> list[Tile]:
        """Tiles as the expected processes walk them if all are equally fast: cut where the next one starts."""
        rows, count = self.rows, self.rows * len(self.tiles)
        cuts = {round(part * count / self.parts) for part in range(1, self.parts)}
        edges = sorted({*range(0, count + 1, rows), *cuts})
        return [self._span(first, last) for first, last in itertools.pairwise(edges)]

    def _span(self, first: int, last: int) -> Tile:
        tile, row = divmod(first, self.rows)
        top, bottom = self.unit(tile, row), self.unit(tile, row + last - first - 1)
        return Tile(self.costs.grid, (slice(top[0].start, bottom[0].stop), *top[1:]))

    @property
    def patches(self) -> int:
        """Patches to predict without skipping; those at borders count once for every span."""
        return sum(span.count for span in self.spans)

    @property
    def needed(self) -> int:
        """Patches to predict if the region were a single tile."""
        return Tile(self.costs.grid, self.region).count

    def record(self) -> dict[str, Any]:
        """Region and columns as plain data; see `adopt`."""
        return {
            "region": [[axis.start, axis.stop] for axis in self.region],
            "columns": [[[axis.start, axis.stop] for axis in tile.core[1:]] for tile in self.tiles],
        }

    def adopt(self, record: Mapping[str, Any]) -> Plan:
        """The same plan with the columns of a record.

        Raises:
            ValueError: the record is not one of a plan over this region in whole shards.
        """
        if record["region"] != self.record()["region"]:
            raise ValueError("another region")
        shape, shard = self.costs.grid.shape[1:], self.costs.shard[1:]
        spans = [[(int(a), int(b)) for a, b in column] for column in record["columns"]]
        whole = all(
            a % size == 0 and a < b and (b % size == 0 or b == length)
            for column in spans
            for (a, b), size, length in zip(column, shard, shape, strict=True)
        )
        covered = sum(math.prod(b - a for a, b in column) for column in spans)
        if not whole or covered != math.prod(axis.stop - axis.start for axis in self.region[1:]):
            raise ValueError("columns that do not cover the region")
        top, bottom = self.region[0].start, self.region[0].stop
        tiles = [
            Tile(self.costs.grid, box_of((top, *(a for a, _ in column)), (bottom, *(b for _, b in column))))
            for column in spans
        ]
        return Plan(costs=self.costs, tiles=tiles, region=self.region, parts=self.parts, budget=self.budget)


def make_plan(costs: Costs, *, memory_budget: int, parts: int = 1, roi: Box | None = None) -> Plan:
    """Divide the volume into columns that fit into memory.

    Of all divisions whose largest column fits into the budget, choose the one that the expected processes complete
    first: each walks the same number of whole units, and patches at the borders of what it walks are computed twice.
    One process gets the division with the fewest patches.

    Args:
        costs: memory costs.
        memory_budget: bytes that one process may use in addition to its networks and their activations.
        parts: processes that are expected to share the run; more or fewer may come.
        roi: voxels to write, extended to whole shards; None writes all.

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
    most = max(MOST_UNITS, 16 * parts)
    best: tuple[tuple[float, float], list[Tile]] | None = None
    for pieces_y, pieces_x in itertools.product(*(_pieces(count) for count in counts[1:])):
        columns = _cut_region(costs, region, (1, pieces_y, pieces_x))
        if max(_memory(costs, core).total for core in columns) > memory_budget:
            continue
        if best is not None and len(columns) * counts[0] > most:
            continue
        tiles = [Tile(costs.grid, core) for core in columns]
        total = sum(tile.count for tile in tiles)
        effort = _busiest(costs, tiles, counts[0], total, parts)
        if best is None or (effort, total) < best[0]:
            best = (effort, total), tiles
    if best is None:
        smallest = max(_memory(costs, core).total for core in _cut_region(costs, region, (1, *counts[1:])))
        raise ConfigError(
            f"memory_budget of {memory_budget / 1e6:.0f} MB: a tile of one shard {list(costs.shard)} needs "
            f"{smallest / 1e6:.0f} MB; raise it, or choose smaller shards, patches or batches"
        )
    return Plan(costs=costs, tiles=best[1], region=region, parts=parts, budget=memory_budget)


def _busiest(costs: Costs, tiles: Sequence[Tile], rows: int, total: int, parts: int) -> float:
    """Patches of the process that ends last, if the processes start at even distances."""
    if parts == 1:
        return total
    units = len(tiles) * rows
    layers = len(tiles[0].zs)
    layer = total / (layers * len(tiles))  # patches at one z of a tile
    walked = math.ceil(units / parts)
    again = min(layers, layers / rows * costs.grid.patch[0] / costs.shard[0])  # layers that reach over a cut
    cuts = 0 if walked % rows == 0 else math.ceil(walked / rows)
    return walked * total / units + cuts * again * layer


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
