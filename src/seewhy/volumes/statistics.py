"""Statistics of a whole volume from one pass over its chunks, or two if percentiles are requested."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.volumes.geometry import box_of, split

__all__ = ["Counted", "measure"]

Counted: TypeAlias = bool | Literal["box"]
"""Voxels that count: all (False), those where any channel is not 0 (True), or their bounding box ("box")."""

VOXELS_AT_A_TIME = 1 << 21
"""Voxels of a block; with its copies in float64 and as keys it takes about 60 MB."""
HALF = 1 << 16


def measure(
    source: VolumeSource,
    *,
    nonzero: Sequence[Counted] | None = None,
    percentiles: Sequence[Sequence[float]] | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Measure mean, standard deviation, extremes and percentiles per channel exactly, over all voxels.

    Mean and variance of blocks are merged in a fixed order (Chan 1983, eq. 2.1) in float64. Percentiles are order
    statistics found by counting, interpolated linearly as numpy does: values are ordered by their float32 bits, the
    first pass counts the upper 16 bits, the second the lower 16 bits of the upper halves that contain a needed rank.

    Args:
        source: the volume; read in whole chunks.
        nonzero: per channel, see `Counted`. Zeros inside the bounding box are added at the end, so the box need not be
            known in advance.
        percentiles: per channel, in [0, 100]; not with `nonzero="box"`.
        progress: called with the completed fraction.

    Returns:
        ``{"channels": [{"count", "mean", "std", "min", "max", "percentiles": […]}, …]}``, plain numbers.

    Raises:
        DataError: a channel has no voxel that counts, or values that are not finite.
    """
    channels = source.shape[0]
    nonzero = nonzero or [False] * channels
    wanted = percentiles or [()] * channels
    moments, counts = [_Moments() for _ in range(channels)], np.zeros((channels, HALF), dtype=np.int64)
    passes = 2 if any(len(values) for values in wanted) else 1
    extent = _Extent()
    for done, blocks in _blocks(source, nonzero, extent):
        for channel, values in enumerate(blocks):
            moments[channel].add(values)
            if len(wanted[channel]):
                counts[channel] += np.bincount(_keys(values) >> 16, minlength=HALF)
        if progress is not None:
            progress(done / passes)
    for channel, moment in enumerate(moments):
        if nonzero[channel] == "box" and moment.count:
            moment.add_zeros(extent.voxels - moment.count)
        if not moment.count:
            raise DataError(f"{source.path}: all voxels of channel {channel} are 0; choose another normalization")
        if not math.isfinite(moment.mean):
            raise DataError(f"{source.path}: channel {channel} holds values that are not finite (NaN or infinite)")
    ranks = [_ranks(values, moment.count) for values, moment in zip(wanted, moments, strict=True)]
    order = _order_statistics(source, nonzero, counts, ranks, progress) if passes == 2 else [{} for _ in wanted]
    return {
        "channels": [
            moment.record() | {"percentiles": [_interpolate(value, moment.count, ranked) for value in values]}
            for moment, values, ranked in zip(moments, wanted, order, strict=True)
        ]
    }


class _Moments:
    """Count, mean, sum of squared deviations and extremes of all values added so far."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, values: NDArray[Any]) -> None:
        if not values.size:
            return
        exact = values.astype(np.float64)
        count, mean = exact.size, float(exact.mean())
        exact -= mean
        squares, shift, total = float(np.dot(exact, exact)), mean - self.mean, self.count + count
        self.squares += squares + shift * shift * self.count * count / total
        self.mean += shift * count / total
        self.count = total
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def add_zeros(self, count: int) -> None:
        """Add zeros."""
        if count:
            total = self.count + count
            self.squares += self.mean * self.mean * self.count * count / total
            self.mean -= self.mean * count / total
            self.count = total
            self.low, self.high = min(self.low, 0.0), max(self.high, 0.0)

    def record(self) -> dict[str, Any]:
        std = math.sqrt(self.squares / self.count)
        return {"count": self.count, "mean": self.mean, "std": std, "min": self.low, "max": self.high}


class _Extent:
    """Bounding box of voxels that are added block by block."""

    def __init__(self) -> None:
        self.low, self.high = [math.inf] * 3, [-math.inf] * 3

    def add(self, box: Box, inside: NDArray[np.bool_]) -> None:
        for axis, part in enumerate(box):
            indices = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            if indices.size:
                self.low[axis] = min(self.low[axis], part.start + int(indices[0]))
                self.high[axis] = max(self.high[axis], part.start + int(indices[-1]) + 1)

    @property
    def voxels(self) -> int:
        return int(math.prod(high - low for low, high in zip(self.low, self.high, strict=True)))


def _blocks(
    source: VolumeSource, nonzero: Sequence[Counted], extent: _Extent | None = None
) -> Iterator[tuple[float, list[NDArray[Any]]]]:
    """Yield the completed fraction and the values that count per channel, block by block in a fixed order."""
    shape = source.shape[1:]
    size = _block_size(shape, source.chunks, source.shape[0])
    whole = box_of((0, 0, 0), shape)
    total = math.prod(-(-n // s) for n, s in zip(shape, size, strict=True))
    for index, box in enumerate(split(whole, size)):
        values = source.read(box)
        inside = (values != 0).any(0) if any(nonzero) else None
        if inside is not None and extent is not None:
            extent.add(box, inside)
        yield (
            (index + 1) / total,
            [channel[inside] if masked else channel.ravel() for channel, masked in zip(values, nonzero, strict=True)],
        )


def _block_size(shape: Sequence[int], chunks: Sequence[int], channels: int) -> list[int]:
    """Size of a block in whole chunks, extended along x, then y, then z while it stays small."""
    size = [min(n, c) for n, c in zip(shape, chunks, strict=True)]
    for axis in (2, 1, 0):
        others = math.prod(size) // size[axis] * channels
        fit = max(1, VOXELS_AT_A_TIME // max(1, others * size[axis]))
        size[axis] = min(shape[axis], size[axis] * fit)
    return size


def _keys(values: NDArray[Any]) -> NDArray[np.uint32]:
    """Convert float32 values to integers of the same order."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _value(key: int) -> float:
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32))


def _ranks(percentiles: Sequence[float], count: int) -> set[int]:
    """Ranks on both sides of the percentiles."""
    positions = [value / 100 * (count - 1) for value in percentiles]
    return {rank for position in positions for rank in (math.floor(position), math.ceil(position))}


def _interpolate(percentile: float, count: int, ranked: dict[int, float]) -> float:
    position = percentile / 100 * (count - 1)
    low, high = ranked[math.floor(position)], ranked[math.ceil(position)]
    return low + (high - low) * (position - math.floor(position))


def _order_statistics(
    source: VolumeSource,
    nonzero: Sequence[Counted],
    counts: NDArray[np.int64],
    ranks: Sequence[set[int]],
    progress: Callable[[float], None] | None,
) -> list[dict[int, float]]:
    """Per channel the values at the needed ranks, from a second pass over the lower halves of the keys."""
    ends = counts.cumsum(axis=1)
    upper = [{rank: int(np.searchsorted(ends[c], rank, side="right")) for rank in r} for c, r in enumerate(ranks)]
    lower: list[dict[int, NDArray[np.int64]]] = [
        {half: np.zeros(HALF, dtype=np.int64) for half in chosen.values()} for chosen in upper
    ]
    for done, blocks in _blocks(source, nonzero):
        for channel, values in enumerate(blocks):
            keys = _keys(values) if lower[channel] else np.empty(0, dtype=np.uint32)
            for half, tally in lower[channel].items():
                tally += np.bincount(keys[keys >> 16 == half] & 0xFFFF, minlength=HALF)
        if progress is not None:
            progress(0.5 + done / 2)
    result: list[dict[int, float]] = []
    for channel, chosen in enumerate(upper):
        values_at = {}
        for rank, half in chosen.items():
            before = int(ends[channel][half - 1]) if half else 0
            low = int(np.searchsorted(lower[channel][half].cumsum(), rank - before, side="right"))
            values_at[rank] = _value(half << 16 | low)
        result.append(values_at)
    return result
