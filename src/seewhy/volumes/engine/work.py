"""Work of a run: units that processes claim one after the other while they walk down a column."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seewhy.io.zarr.source import Box
from seewhy.sharing.claims import Claims
from seewhy.volumes.geometry import voxels
from seewhy.volumes.plan import Plan, Step, Tile

__all__ = ["Span", "Unit", "WorkQueue"]

SHORTEST_WAIT, LONGEST_WAIT = 0.01, 1.0
"""Seconds between two looks at what the others have done."""
LOOK = 0.5
"""Seconds after which a walk looks again whether others have written its rows."""
MARGIN = 1.2
"""A unit is computed a second time if its owner needs this many times longer for the rest than the helper for all."""


class Unit(NamedTuple):
    """One row of shards of a tile."""

    tile: int
    row: int

    @property
    def key(self) -> str:
        """Name of its claim."""
        return f"{self.tile:05d}-{self.row:05d}"

    @classmethod
    def parse(cls, key: str) -> Unit | None:
        """Unit of a claim; None for another file that lies there."""
        tile, _, row = key.partition("-")
        return cls(int(tile), int(row)) if tile.isdecimal() and row.isdecimal() else None


class Span:
    """Units of one tile from a row downwards, which this process walks for as long as the next one is free.

    Args:
        queue: where units are claimed.
        unit: the first one, which is claimed.
    """

    def __init__(self, queue: WorkQueue, unit: Unit) -> None:
        self._queue, self.unit = queue, unit
        plan, box = queue.plan, queue.plan.unit(*unit)
        self.row, self.stop = box[0].start, box[0].stop
        bottom = plan.region[0].stop
        self.tile = Tile(plan.costs.grid, (slice(self.row, bottom), *box[1:]))

    @property
    def reach(self) -> int:
        """End of the input rows that the claimed units need."""
        grid = self.tile.grid
        return grid.starts[0][grid.covering(0, self.row, self.stop)[-1]] + grid.patch[0]

    def steps(self) -> Iterator[Step]:
        """Walk along z; the next unit is claimed one step before its first patch.

        Yields:
            Steps in the order of z. The last one completes the claimed rows, unless others have written them meanwhile.
        """
        starts, bottom = self.tile.grid.starts[0], self.tile.core[0].stop
        for z in self.tile.zs:
            if self._queue.is_overtaken(self, max(starts[z], self.row)):
                return
            following = starts[z + 1] if z + 1 in self.tile.zs else bottom
            final = min(max(following, self.row), bottom)
            while final >= self.stop and self._extend():
                pass
            yield Step(z, self.tile.ys, self.tile.xs, min(final, self.stop))
            if final >= self.stop:
                return

    def slabs(self) -> Iterator[Box]:
        """Units as boxes, for work without patches."""
        while True:
            yield self._queue.plan.unit(*self.unit)
            if not self._extend():
                return

    def _extend(self) -> bool:
        """Claim the next unit; False if there is none or another process has it."""
        following = Unit(self.unit.tile, self.unit.row + 1)
        if following.row >= self._queue.plan.rows or not self._queue.take(following, after=self.unit):
            return False
        self.unit, self.stop = following, self._queue.plan.unit(*following)[0].stop
        return True


class WorkQueue:
    """Units of a plan that are not written yet; claims them for one of the processes that share the run.

    A new process starts where the fewest rows are shared: at the place that the plan keeps for it, otherwise at the top
    of the longest row of free units, or inside it if a walk comes down on it from above: then where both will meet at
    the same time, by their speeds so far. It claims unit after unit downwards until it meets a claim. When nothing is
    free, it computes units again whose owners would take longer for the rest; the first one to write counts, and the
    bytes are the same.

    Args:
        plan: tiles and units.
        claims: who works on what.
        part: place among the expected processes at which this one prefers to start.
        read_written: flags [tile, unit] of what any process has written.
        commit: records that a box is written.
        build: does something else that is due, while others are waited for; False if there is nothing.
        clock: seconds.

    Attributes:
        waited: seconds in which this process had nothing to do.
        helped: units that this process has claimed although another one had them.
        stopped: set by another thread to end `wait`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        claims: Claims,
        part: int = 0,
        read_written: Callable[[], NDArray[np.bool_]],
        commit: Callable[[Box], None],
        build: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan, self.claims, self.part = plan, claims, part
        self._read_written, self._commit, self._build, self._clock = read_written, commit, build, clock
        self.written = read_written()
        self.waited, self.helped = 0.0, 0
        self.stopped = threading.Event()
        self._mine: dict[Unit, float] = {}
        self._since: dict[Unit, float] = {}
        self._looked, self._pause = clock(), SHORTEST_WAIT
        self._begun: float | None = None
        self._units = 0.0
        self.pace: float | None = None
        """Seconds per unit of this process; None before the first."""

    # -- claiming -------------------------------------------------------------------------------------------------

    def next_span(self) -> Span | None:
        """Claim the next place to start; None if nothing is free at the moment."""
        self.refresh()
        while (unit := self._choose()) is not None:
            if self.take(unit):
                return self._begin(unit)
        unit = self._choose_help()
        if unit is None or not self.claims.help(unit.key):
            return None
        self.helped += 1
        return self._begin(unit)

    def spans(self, check: Callable[[], None] = lambda: None) -> Iterator[Span]:
        """Spans until everything is written; waits for other processes at the end.

        Args:
            check: raises the error of a thread that writes.
        """
        while True:
            span = self.next_span()
            if span is not None:
                yield span
            else:
                check()
                if not self.wait():
                    return

    def take(self, unit: Unit, *, after: Unit | None = None) -> bool:
        """Claim a unit that is not written.

        Args:
            unit: to claim.
            after: unit of the same walk above it; if another process has claimed that one too, it goes on from there.
        """
        if self.written[unit]:
            return False
        if after is not None and len(self.claims.holders(after.key)) > 1:
            return False
        if not self.claims.take(unit.key):
            return False
        self._mine[unit] = self._clock()
        return True

    def refresh(self) -> None:
        """Look at what all processes have written and claimed."""
        self._looked = self._clock()
        self.written = self._read_written()
        self.claims.refresh()

    def is_overtaken(self, span: Span, row: int) -> bool:
        """Whether others have written all rows of a span from `row` on, which this process has still to compute."""
        if self._clock() - self._looked > LOOK:
            self.refresh()
        tile, first = span.unit.tile, self.plan.row_of(row)
        return bool(self.written[tile, first : span.unit.row + 1].all())

    # -- progress -------------------------------------------------------------------------------------------------

    def wait(self) -> bool:
        """Wait a moment for other processes; False at once if all that is not written is this process's own."""
        open_units = [Unit(*map(int, unit)) for unit in np.argwhere(~self.written)]
        if self.stopped.is_set() or all(unit in self._mine for unit in open_units):
            return False
        if self._build():
            return not self.stopped.is_set()
        began = self._clock()
        self.stopped.wait(self._pause)
        longest = LONGEST_WAIT if self.pace is None else min(LONGEST_WAIT, self.pace / 10)
        self._pause = max(SHORTEST_WAIT, min(2 * self._pause, longest))
        if not any(unit in self._mine for unit in open_units):
            self.waited += self._clock() - began
        return not self.stopped.is_set()

    def commit(self, box: Box) -> None:
        """Record that a box of one tile's rows is written."""
        self._commit(box)
        self._units += (box[0].stop - box[0].start) / self.plan.costs.shard[0]
        if self._begun is not None:
            self.pace = (self._clock() - self._begun - self.waited) / self._units

    def is_written(self, box: Box) -> bool:
        """Whether any process has written all of a box of one tile's rows."""
        self.written = self._read_written()
        rows = slice(self.plan.row_of(box[0].start), self.plan.row_of(box[0].stop - 1) + 1)
        return any(
            bool(self.written[tile, rows].all())
            for tile, column in enumerate(self.plan.tiles)
            if column.core[1:] == box[1:]
        )

    def count_open(self) -> tuple[int, int]:
        """Patches and voxels of the units that are not written."""
        tiles = list(self._open_tiles())
        return sum(tile.count for tile in tiles), sum(voxels(tile.core) for tile in tiles)

    def _open_tiles(self) -> Iterator[Tile]:
        """Units that are not written, as one tile for each run of them."""
        for tile, row, length in _find_runs(~self.written):
            top, bottom = self.plan.unit(tile, row), self.plan.unit(tile, row + length - 1)
            yield Tile(self.plan.costs.grid, (slice(top[0].start, bottom[0].stop), *top[1:]))

    # -- choosing -------------------------------------------------------------------------------------------------

    def _begin(self, unit: Unit) -> Span:
        self._mine[unit] = self._clock()
        self._begun = self._clock() if self._begun is None else self._begun
        self._pause = SHORTEST_WAIT
        return Span(self, unit)

    def _choose(self) -> Unit | None:
        """Unit to start at; None if nothing is free."""
        held = self._find_held()
        free = ~self.written
        for unit in (*held, *self._mine):
            free[unit] = False
        count, rows = free.size, self.plan.rows
        if not self._mine:
            for place in range(self.plan.parts):
                first = round((self.part + place) % self.plan.parts * count / self.plan.parts)
                if free[divmod(first, rows)]:
                    return Unit(*divmod(first, rows))
        best, most = None, 0.0
        for tile, row, length in _find_runs(free):
            above = held.get(Unit(tile, row - 1))
            own = max(1, round(length * self._share(above))) if above else length
            if own > most:
                best, most = Unit(tile, row + length - own), own
        return best

    def _share(self, walker: str) -> float:
        """Part of a row of free units that this process will complete before the walk that comes from above."""
        own, other = self.pace, self.claims.pace(walker)
        return 0.5 if not own or not other else other / (own + other)

    def _find_held(self) -> dict[Unit, str]:
        """Units that living others have claimed and not written."""
        held = {}
        for key in self.claims.claimed():
            unit = Unit.parse(key)
            inside = unit is not None and unit.tile < len(self.plan.tiles) and unit.row < self.plan.rows
            if unit is None or not inside or unit in self._mine or self.written[unit]:
                continue
            holders = self.claims.holders(key)
            if holders:
                held[unit] = holders[-1]
                self._since.setdefault(unit, self._clock())
        return held

    def _choose_help(self) -> Unit | None:
        """Unit of another process that this one would complete earlier; None if there is none."""
        best, latest = None, 0.0
        for unit, owner in self._find_held().items():
            if len(self.claims.holders(unit.key)) > 1:
                continue
            pace, passed = self.claims.pace(owner), self._clock() - self._since[unit]
            rest = abs(pace - passed) if pace else passed
            if rest > max(latest, MARGIN * (self.pace or 0.0)):
                best, latest = unit, rest
        return best


def _find_runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Runs of set flags within a row of an array [tile, unit].

    Yields:
        Tile, first unit, number of units.
    """
    edges = np.diff(np.pad(flags.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    for (tile, start), (_, stop) in zip(np.argwhere(edges == 1), np.argwhere(edges == -1), strict=True):
        yield int(tile), int(start), int(stop - start)
