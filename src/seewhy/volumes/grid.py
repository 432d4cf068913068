"""Where patches lie: positions over the whole volume, the same for every part, tile and region of a run."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from seewhy.errors import ConfigError
from seewhy.io.volume_base import Box
from seewhy.volumes.box import box_of

__all__ = ["PatchGrid"]


class PatchGrid:
    """Patch positions of nnU-Net over a whole volume.

    Per axis the positions are spread evenly so that neighbours are at most `patch * (1 - overlap)` apart and the
    last patch touches the end: n = ceil((N - P) / (P (1 - overlap))) + 1 starts at round(i (N - P) / (n - 1))
    (Isensee 2021, `compute_steps_for_sliding_window`). They depend on the volume's shape alone, never on the region
    that is asked for, so that a region's voxels are those of a full run. Along an axis shorter than the patch there
    is one patch, centred on the volume; what sticks out is padding.

    Args:
        shape: the volume, ZYX.
        patch: the network's input, ZYX.
        overlap: the share of a patch, per axis, that its neighbour covers too; in [0, 1).

    Raises:
        ConfigError: for a patch or overlap out of range.
    """

    def __init__(self, *, shape: Sequence[int], patch: Sequence[int], overlap: float = 0.5) -> None:
        self.shape, self.patch, self.overlap = _triple(shape, "shape"), _triple(patch, "patch"), float(overlap)
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap={overlap}: the share that neighbouring patches have in common, in [0, 1)")
        # A patch of one voxel along an axis (networks of slices) moves by one voxel, whatever the overlap.
        steps = [max(1.0, size * (1 - self.overlap)) for size in self.patch]
        starts = [_starts(n, p, step) for n, p, step in zip(self.shape, self.patch, steps, strict=True)]
        self.starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = (starts[0], starts[1], starts[2])
        """Per axis the first voxel of each patch, rising; negative where the volume is padded."""

    @property
    def count(self) -> int:
        """Patches of the whole volume."""
        return math.prod(len(starts) for starts in self.starts)

    def covering(self, axis: int, low: int, high: int) -> range:
        """Positions along an axis whose patches reach into the voxels from `low` (inside) to `high` (outside)."""
        starts, size = self.starts[axis], self.patch[axis]
        first, end = bisect_right(starts, low - size), bisect_left(starts, high)
        return range(first, end) if first < end else range(0)

    def box(self, position: Sequence[int]) -> Box:
        """The voxels of one patch, given its position along z, y and x; it sticks out where the volume is padded."""
        starts = [axis[index] for axis, index in zip(self.starts, position, strict=True)]
        return box_of(starts, [start + size for start, size in zip(starts, self.patch, strict=True)])


def _starts(length: int, patch: int, step: float) -> tuple[int, ...]:
    """First voxels of the patches along one axis."""
    if length <= patch:
        return (-((patch - length) // 2),)
    # The tolerance keeps a step that is a whole number in decimals from costing one more patch, as 1 - 0.9 would.
    count = math.ceil((length - patch) / step - 1e-9) + 1
    return tuple(round(index * (length - patch) / (count - 1)) for index in range(count))


def _triple(values: Sequence[int], name: str) -> tuple[int, int, int]:
    numbers = tuple(int(value) for value in values)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ConfigError(f"{name}={list(values)}: expected three positive numbers, z, y and x")
    return numbers[0], numbers[1], numbers[2]
