"""The coarser levels of an output, built shard by shard."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.zarr.layout import VolumeLayout, create_level
from seewhy.io.zarr.store import CountedStore

__all__ = ["build_pyramid", "halved_by_mean", "halved_by_mode"]


def build_pyramid(reading: CountedStore, writing: CountedStore, layout: VolumeLayout) -> None:
    """Build every level from the one above it.

    One shard of one channel is held at a time, and the voxels of one chunk of the level above times eight.

    Args:
        reading: store to read levels from.
        writing: the same store, for whole shards.
        layout: of the output.
    """
    import zarr

    for level in range(1, len(layout.level_shapes())):
        fine = zarr.open_array(store=reading, path=layout.array(level - 1), mode="r")
        coarse = create_level(writing, layout, level)
        spans = [range(-(-size // part)) for size, part in zip(coarse.shape[-3:], layout.shard, strict=True)]
        channels = [(channel,) for channel in range(coarse.shape[0])] if coarse.ndim == 4 else [()]
        for channel, index in itertools.product(channels, itertools.product(*spans)):
            box = tuple(
                slice(i * part, min((i + 1) * part, size))
                for i, part, size in zip(index, layout.shard, coarse.shape[-3:], strict=True)
            )
            coarse[(*channel, *box)] = _shard(fine, channel, box, layout)


def halved_by_mean(values: NDArray[Any]) -> NDArray[Any]:
    """Mean of every 2 × 2 × 2 voxels, of fewer at an odd end; integers are rounded half up.

    Args:
        values: [z, y, x].

    Returns:
        [⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉] of the same type.
    """
    whole = values.dtype.kind in "bui"
    exact = np.float64 if not whole else np.int32 if values.dtype.itemsize <= 2 else np.int64
    corners = _corners(values)
    total = corners[0].astype(exact)
    for corner in corners[1:]:
        total += corner
    return ((total + 4) // 8 if whole else total / 8).astype(values.dtype)


def halved_by_mode(values: NDArray[Any]) -> NDArray[Any]:
    """Most frequent label of every 2 × 2 × 2 voxels; the larger of equally frequent ones, so that thin parts stay.

    Args:
        values: [z, y, x] of integers.

    Returns:
        [⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉] of the same type.
    """
    corners = np.sort(_corners(values), axis=0)
    best, most = corners[0].copy(), np.ones(corners.shape[1:], dtype=np.uint8)
    run = np.ones_like(most)
    for previous, current in itertools.pairwise(corners):
        run = np.where(current == previous, run + 1, 1).astype(np.uint8)
        better = run >= most
        best[better], most[better] = current[better], run[better]
    return best


def _shard(fine: Any, channel: tuple[int, ...], box: tuple[slice, ...], layout: VolumeLayout) -> NDArray[Any]:
    """One shard of the coarser level, put together chunk by chunk."""
    halved = halved_by_mode if layout.labels else halved_by_mean
    shard = np.empty([part.stop - part.start for part in box], dtype=layout.dtype)
    parts = [range(0, size, chunk) for size, chunk in zip(shard.shape, layout.chunk, strict=True)]
    for corner in itertools.product(*parts):
        inner = tuple(
            slice(first, min(first + chunk, size))
            for first, chunk, size in zip(corner, layout.chunk, shard.shape, strict=True)
        )
        outer = tuple(
            slice(2 * (part.start + own.start), min(2 * (part.start + own.stop), size))
            for part, own, size in zip(box, inner, fine.shape[-3:], strict=True)
        )
        shard[inner] = halved(np.asarray(fine[(*channel, *outer)]))
    return shard


def _corners(values: NDArray[Any]) -> NDArray[Any]:
    """[8, …]: the eight voxels behind each coarse one; the last voxel stands in where an axis is odd."""
    even = np.pad(values, [(0, size % 2) for size in values.shape], mode="edge")
    return np.stack([even[z::2, y::2, x::2] for z, y, x in itertools.product((0, 1), repeat=3)])
