"""Patches and instructions in the order of addition, as batches of one size: what runs ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import DataError
from seewhy.io.volume_base import Box, VolumeSource
from seewhy.volumes.box import clip
from seewhy.volumes.normalization import Normalization
from seewhy.volumes.slab import Slab
from seewhy.volumes.unit import Unit

__all__ = ["Add", "Advance", "Begin", "Command", "PatchStream", "Work"]

Position = tuple[int, int, int]
LONGEST = 4096
"""Instructions that may pile up while nothing but skipped patches comes."""


class Begin(NamedTuple):
    """A tile starts at a row."""

    unit: Unit
    row: int


class Add(NamedTuple):
    """A patch counts: the logits of a slot of the batch, or declared background where the slot is None."""

    position: Position
    slot: int | None


class Advance(NamedTuple):
    """The rows before this one are final."""

    row: int


Command = Begin | Add | Advance


class Work:
    """One batch and what to do with its logits; no batch where all patches were skipped.

    Not a tuple or dataclass, so that Lightning hands it through as it is.
    """

    __slots__ = ("commands", "image", "starts")

    def __init__(self, image: Tensor | None, commands: list[Command], starts: list[Position]) -> None:
        self.image, self.commands, self.starts = image, commands, starts


class PatchStream:
    """Reads, normalises and batches the patches of some tiles.

    Args:
        source: the volume.
        tiles: tiles, each with the first row that is not written yet.
        normalize: of patches.
        batch_size: patches per batch; the last one is filled up with zeros.
        piece: rows of input that are read at a time.
        skip_empty: leave out patches that hold one value only in every channel.
        pinned: make batches in page-locked memory, for copies to a GPU that do not wait.
    """

    def __init__(
        self,
        *,
        source: VolumeSource,
        tiles: Sequence[tuple[Unit, int]],
        normalize: Normalization,
        batch_size: int,
        piece: int,
        skip_empty: bool,
        pinned: bool = False,
    ) -> None:
        self.source, self.tiles, self.normalize = source, tiles, normalize
        self.batch_size, self.piece, self.skip_empty, self.pinned = batch_size, piece, skip_empty, pinned
        self._image: Tensor | None = None
        self._commands: list[Command] = []
        self._starts: list[Position] = []

    def __iter__(self) -> Iterator[Work]:
        """All work of the tiles, in order."""
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            for unit, row in self.tiles:
                yield from self._tile(unit, row, reader)
            if self._commands:
                yield self._pack()

    def _tile(self, unit: Unit, row: int, reader: ThreadPoolExecutor) -> Iterator[Work]:
        self._commands.append(Begin(unit, row))
        slab = Slab(
            source=self.source,
            window=unit.window,
            depth=unit.grid.patch[0],
            piece=self.piece,
            reader=reader,
            occupied=self._occupied,
        )
        for step in unit.steps(row):
            for y in step.ys:
                for x in step.xs:
                    position = (step.z, y, x)
                    values = self._values(slab, unit.grid.box(position))
                    if values is None:
                        self._commands.append(Add(position, None))
                    else:
                        self._fill(values, unit, position)
                    if len(self._starts) == self.batch_size or len(self._commands) >= LONGEST:
                        yield self._pack()
            self._commands.append(Advance(step.final))

    def _occupied(self, box: Box) -> bool:
        return not self.skip_empty or self.source.occupied(box)

    def _values(self, slab: Slab, box: Box) -> NDArray[Any] | None:
        """A patch's voxels inside the volume, or None where the patch is skipped."""
        if not self._occupied(clip(box, self.source.shape[1:])):
            return None
        slab.load(box[0].start, box[0].stop)
        values = slab.patch(box)
        return None if self.skip_empty and _homogeneous(values) else values

    def _fill(self, values: NDArray[Any], unit: Unit, position: Position) -> None:
        """Normalise a patch into the next slot; what lies outside the volume is zero, as after normalisation."""
        if self._image is None:
            shape = (self.batch_size, self.source.shape[0], *unit.grid.patch)
            self._image = torch.empty(shape, dtype=torch.float32, pin_memory=self.pinned)
        slot, box = len(self._starts), unit.grid.box(position)
        image = self._image.numpy()[slot]
        inside = clip(box, self.source.shape[1:])
        place = tuple(slice(i.start - b.start, i.stop - b.start) for i, b in zip(inside, box, strict=True))
        if values.shape[1:] != image.shape[1:]:
            image[...] = 0
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            where = ", ".join(f"{axis.start}:{axis.stop}" for axis in inside)
            raise DataError(
                f"{self.source.path}: voxels of [{where}] are not finite (NaN or infinite), and a network makes all of "
                "them so; give them a number, e.g. that of the background"
            )
        self.normalize(values, image[(slice(None), *place)])
        self._commands.append(Add(position, slot))
        self._starts.append((box[0].start, box[1].start, box[2].start))

    def _pack(self) -> Work:
        """What has piled up, as one piece of work; empty slots are zeros."""
        if self._image is not None:
            self._image[len(self._starts) :] = 0
        work = Work(self._image, self._commands, self._starts)
        self._image, self._commands, self._starts = None, [], []
        return work


def _homogeneous(values: NDArray[Any]) -> bool:
    """Whether every channel holds one value only, and no NaN."""
    corner = values[:, :1, :1, :1]
    if not np.array_equal(values[:, ::7, ::7, ::7], np.broadcast_to(corner, values[:, ::7, ::7, ::7].shape)):
        return False
    return bool((values == corner).all())
