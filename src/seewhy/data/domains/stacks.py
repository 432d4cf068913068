"""Stacks of adjacent slices of prepared subjects: cut to a grid, normalised, background left as background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.data.domains.measurement import AXIS, QUANTILES
from seewhy.data.domains.store import PreparedSubject
from seewhy.errors import ConfigError
from seewhy.io.placement import Placement

__all__ = ["StackReader", "move_stacks", "overlapping_stacks"]

OUTSIDE = -1.0
"""Value of all that is not tissue."""


@dataclass(frozen=True, kw_only=True)
class StackReader:
    """Reads slices of prepared subjects.

    A modality's tissue is mapped linearly so that its percentiles lie at -1 and 1, values beyond are cut off, and
    all outside the tissue is -1. Slices are never resized: they keep the source's pixels, cut or padded to a grid
    that lies around the middle of the tissue.

    Attributes:
        percentiles: of the tissue, per subject and modality.
        image_size: rows and columns of the grid; None keeps the source's, padded to a multiple of `multiple_of`.
        multiple_of: what rows and columns must be divisible by.

    Raises:
        ConfigError: numbers that make no grid.
    """

    percentiles: tuple[float, float] = (0.5, 99.5)
    image_size: tuple[int, int] | None = None
    multiple_of: int = 4

    def __post_init__(self) -> None:
        low, high = self.percentiles
        problems = []
        if not 0 <= low < high <= 100:
            problems.append(f"data.percentiles={[low, high]} must rise and lie in 0..100")
        if self.multiple_of < 1:
            problems.append(f"data.multiple_of={self.multiple_of} must be 1 or more")
        elif self.image_size and any(side < 1 or side % self.multiple_of for side in self.image_size):
            problems.append(
                f"data.image_size={list(self.image_size)} must be multiples of data.multiple_of={self.multiple_of}"
            )
        if problems:
            raise ConfigError("; ".join(problems))

    def placement(self, subject: PreparedSubject) -> Placement:
        """From the subject's files to its grid: all slices with tissue, cut or padded, never resized."""
        slices, *planes = subject.box
        lengths = (subject.shape[0], subject.shape[1])
        ends = [self._ends(axis, length, box) for axis, (length, box) in enumerate(zip(lengths, planes, strict=True))]
        return Placement(
            source=next(iter(subject.files.values())),
            shape=subject.shape,
            axis=AXIS,
            crop=(slices, *(crop for crop, _ in ends)),
            pad=((0, 0), *(pad for _, pad in ends)),
        )

    def problems(self, subject: PreparedSubject) -> list[str]:
        """Tissue that the grid would cut off."""
        placement = self.placement(subject)
        needed = [stop - start for start, stop in subject.box[1:]]
        cut = [
            not (first <= start and stop <= last)
            for (first, last), (start, stop) in zip(placement.crop[1:], subject.box[1:], strict=True)
        ]
        if not any(cut):
            return []
        return [
            f"{subject.domain}: {subject.id} has {needed[0]}x{needed[1]} pixels of tissue, more than "
            f"data.image_size={list(self.image_size or ())}; make it larger, or null for the files' own size"
        ]

    def intensity(self, subject: PreparedSubject) -> NDArray[np.float32]:
        """[M, 2] float32, the source's intensities that become -1 and 1."""
        ends = [np.interp(self.percentiles, QUANTILES, row) for row in subject.quantiles]
        return np.asarray(ends, np.float32)

    def body(self, subject: PreparedSubject, placement: Placement, first: int, last: int) -> NDArray[np.bool_]:
        """Tissue [last - first, H, W] of slices numbered as in the source; see `planes`."""
        return self._paste(subject, subject.body, placement, first, last, np.zeros((), bool))

    def mask(self, subject: PreparedSubject, placement: Placement, first: int, last: int) -> NDArray[np.uint8] | None:
        """Annotation [last - first, H, W], or None where the subject has none."""
        mask = subject.mask
        return None if mask is None else self._paste(subject, mask, placement, first, last, np.zeros((), np.uint8))

    def planes(
        self,
        subject: PreparedSubject,
        placement: Placement,
        first: int,
        last: int,
        *,
        body: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Normalised slices on a grid.

        Args:
            subject: whose.
            placement: the grid; a counterpart takes that of the subject it belongs to.
            first: slice as numbered in the source; beyond its ends the outermost slice is repeated.
            last: the one after the last.
            body: [last - first, H, W] where there is tissue; None takes the subject's own.

        Returns:
            [last - first, M, H, W] float32 in [-1, 1].
        """
        low, high = self.intensity(subject).T[:, :, None, None]
        scale = 2 / np.maximum(high - low, np.float32(1e-12))
        # What lies beyond the box of its own tissue is background, whatever number that has in the files.
        fill = np.floor(low).astype(subject.volume.dtype)
        raw = self._paste(subject, subject.volume, placement, first, last, fill).astype(np.float32)
        values = np.clip((raw - low) * scale - 1, -1, 1, out=raw)
        inside = self.body(subject, placement, first, last) if body is None else body
        values[np.broadcast_to(~inside[:, None], values.shape)] = OUTSIDE
        return values

    def _ends(self, axis: int, length: int, box: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Crop and padding of an axis."""
        side = -(-length // self.multiple_of) * self.multiple_of if self.image_size is None else self.image_size[axis]
        if side >= length:
            before = (side - length) // 2
            return (0, length), (before, side - length - before)
        start = min(max((box[0] + box[1] - side) // 2, 0), length - side)
        return (start, start + side), (0, 0)

    def _paste(
        self,
        subject: PreparedSubject,
        array: NDArray[Any],
        placement: Placement,
        first: int,
        last: int,
        fill: NDArray[Any],
    ) -> NDArray[Any]:
        """Put slices of a subject's box onto a grid; only the bytes of those slices are read."""
        (start, stop), *box = subject.box
        numbers = np.clip(np.arange(first, last), 0, subject.shape[AXIS] - 1)
        result = np.empty((last - first, *array.shape[1:-2], *placement.grid[1:]), array.dtype)
        result[...] = fill
        inside = (numbers >= start) & (numbers < stop)
        if not inside.any():
            return result
        places = numbers[inside] - start
        read = np.asarray(array[places.min() : places.max() + 1])[places - places.min()]
        here: list[slice] = []
        there: list[slice] = []
        for (low, high), (cut, end), (before, _) in zip(box, placement.crop[1:], placement.pad[1:], strict=True):
            shown = max(low, cut), min(high, end)
            here.append(slice(shown[0] - cut + before, shown[1] - cut + before))
            there.append(slice(shown[0] - low, shown[1] - low))
        result[np.flatnonzero(inside), ..., here[0], here[1]] = read[..., there[0], there[1]]
        return result


def overlapping_stacks(planes: Tensor, *, slices: int) -> Tensor:
    """All stacks of adjacent slices, slice-major, without copying: neighbouring stacks share their memory.

    Args:
        planes: [S + slices - 1, M, H, W], contiguous.
        slices: per stack.

    Returns:
        [S, slices * M, H, W], to be read only: one value written would change several stacks.
    """
    count, modalities, rows, columns = planes.shape
    size = (count - slices + 1, slices * modalities, rows, columns)
    return torch.as_strided(planes.contiguous(), size, (modalities * rows * columns, rows * columns, columns, 1))


def move_stacks(stacks: Tensor, device: torch.device) -> Tensor:
    """Move what `overlapping_stacks` gave to a device, where neighbours share their memory, too.

    Left to itself PyTorch would first write every stack out in memory that is not page-locked, so that each slice
    would go over once per stack, and the copy would be waited for.

    Args:
        stacks: [S, slices * M, H, W].
        device: to which; page-locked memory is copied to a GPU while other work goes on.

    Returns:
        The same values, to be read only.
    """
    count, channels, rows, columns = stacks.shape
    modalities = stacks.stride(0) // (rows * columns)
    planes = torch.as_strided(
        stacks, ((count - 1) * modalities + channels, rows, columns), (rows * columns, columns, 1)
    )
    return torch.as_strided(planes.to(device, non_blocking=device.type == "cuda"), stacks.size(), stacks.stride())
