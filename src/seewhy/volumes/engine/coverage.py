"""Written shards of an output, and its coarser levels, whose parts all processes of a run build together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seewhy.io.zarr.source import Box
from seewhy.sharing.tasks import SharedTasks, Task
from seewhy.volumes.plan import Plan

__all__ = ["CoarseLevels", "Coverage", "Levelled", "list_parts"]

Index = tuple[int, int, int]


class Coverage:
    """Written shards of a volume, one flag per shard.

    Args:
        shape: of the volume, ZYX.
        shard: of the output, ZYX.
        boxes: written boxes; whole shards, or up to the volume's end.
    """

    def __init__(self, *, shape: Sequence[int], shard: Sequence[int], boxes: Iterable[Box] = ()) -> None:
        self.shard = tuple(shard)
        self.written = np.zeros([-(-n // s) for n, s in zip(shape, shard, strict=True)], dtype=bool)
        for box in boxes:
            self.add(box)

    def add(self, box: Box) -> None:
        """Mark a box as written."""
        self.written[self._shards(box)] = True

    def units(self, plan: Plan) -> NDArray[np.bool_]:
        """Flags [tile, unit] of a plan's units that are completely written."""
        return np.stack([self.written[self._shards(tile.core)].all(axis=(1, 2)) for tile in plan.tiles])

    def is_complete(self, region: Box) -> bool:
        """Whether a region is completely written."""
        return bool(self.written[self._shards(region)].all())

    def select(self, region: Box) -> NDArray[np.bool_]:
        """Flags of the shards that a region touches."""
        flags = np.zeros_like(self.written)
        flags[self._shards(region)] = True
        return flags

    def _shards(self, box: Box) -> tuple[slice, ...]:
        return tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.shard, strict=True)
        )


# -- coarser levels -------------------------------------------------------------------------------------------


class Levelled(Protocol):
    """Output with coarser levels."""

    @property
    def levels(self) -> int:
        """Coarser levels, each of which has half as many voxels along each axis; 0 for none."""

    def build_part(self, level: int, index: Index) -> None:
        """Build one shard of a coarser level from the level before.

        Args:
            level: 1 is made of the written shards.
            index: of the shard, ZYX; it is made of the shards `2 * index` and, where they exist, `2 * index + 1`.
        """


class CoarseLevels:
    """Parts of the coarser levels that all processes of a run build together.

    A part can be built as soon as all shards under it are written, so processes that wait for others at the end build
    them meanwhile. Parts without any written shard are empty, and are not stored.

    Args:
        output: builds the parts.
        tasks: claims and notes.
        region: that the run writes.
    """

    def __init__(self, output: Levelled, tasks: SharedTasks, *, region: Box) -> None:
        self._output, self._tasks, self._region = output, tasks, region

    @property
    def waited(self) -> float:
        """Seconds in which this process waited for parts of others."""
        return self._tasks.waited

    def build_next(self, coverage: Coverage) -> bool:
        """Build one part if one is due and free.

        Args:
            coverage: what is written so far.

        Returns:
            Whether one was built.
        """
        parts = self._find_due(coverage)
        for task in self._tasks.claim(list(parts)):
            self._output.build_part(*parts[task])
            self._tasks.complete(task)
            return True
        return False

    def build_all(self, coverage: Coverage) -> None:
        """Build parts until there are all, sharing them with the other processes that do so.

        Args:
            coverage: of the whole region.
        """
        parts = self._find_due(coverage)
        for task in self._tasks.each(list(parts)):
            self._output.build_part(*parts[task])

    def close(self) -> None:
        """Close the notes of this process."""
        self._tasks.close()

    def _find_due(self, coverage: Coverage) -> dict[Task, tuple[int, Index]]:
        """Parts that are not built and have all their shards, in an order in which they can be built.

        The key of a part has the number of written shards under it: when a later run writes more, it is another part.
        """
        missing = ~coverage.written
        missing &= coverage.select(self._region)
        counts = [coverage.written.astype(np.int64)]
        due = {}
        for level in range(1, self._output.levels + 1):
            counts.append(_sum_pairs(counts[-1]))
            missing = _sum_pairs(missing.astype(np.int64)) > 0
            for z, y, x in np.argwhere((counts[level] > 0) & ~missing).tolist():
                index = (z, y, x)
                key = _format_key(level, index, counts)
                if key not in self._tasks.done:
                    due[Task(key, _list_needs(level, index, counts))] = (level, index)
        return due


def list_parts(shape: Sequence[int], levels: int) -> Iterator[tuple[int, Index]]:
    """List the parts of all coarser levels in an order in which they can be built.

    Args:
        shape: written shards along Z, Y and X.
        levels: coarser levels.

    Yields:
        Level and index.

    Example:
        >>> from seewhy.volumes.engine.coverage import list_parts
        >>> list(list_parts((3, 1, 1), 2))
        [(1, (0, 0, 0)), (1, (1, 0, 0)), (2, (0, 0, 0))]
    """
    for level in range(1, levels + 1):
        z, y, x = (-(-size // 2**level) for size in shape)
        for index in itertools.product(range(z), range(y), range(x)):
            yield level, index


def _list_needs(level: int, index: Index, counts: Sequence[NDArray[np.int64]]) -> frozenset[str]:
    """Keys of the parts of the finer level that a part is made of."""
    if level == 1:
        return frozenset()
    spans = [range(2 * i, min(2 * i + 2, size)) for i, size in zip(index, counts[level - 1].shape, strict=True)]
    finer = (item for item in itertools.product(*spans) if counts[level - 1][item])
    return frozenset(_format_key(level - 1, item, counts) for item in finer)


def _format_key(level: int, index: Sequence[int], counts: Sequence[NDArray[np.int64]]) -> str:
    return "-".join(map(str, (level, *index, counts[level][tuple(index)])))


def _sum_pairs(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum over 2 × 2 × 2 neighbours; a single last one counts alone."""
    padded = np.pad(values, [(0, size % 2) for size in values.shape])
    z, y, x = (size // 2 for size in padded.shape)
    return padded.reshape(z, 2, y, 2, x, 2).sum(axis=(1, 3, 5))
