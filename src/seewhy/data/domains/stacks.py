"""Read stacks of adjacent slices of prepared subjects: cropped to a grid and normalised, with a constant background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from seewhy.data.domains.measurement import AXIS, QUANTILES
from seewhy.data.domains.store import PreparedSubject
from seewhy.errors import ConfigError
from seewhy.io.placement import Placement
from seewhy_run.arrays.resizing import fit_length

__all__ = ["StackReader", "Window", "make_overlapping_stacks", "move_stacks"]

OUTSIDE = -1.0
"""Value of voxels outside the tissue."""


class Window(NamedTuple):
    """Part of a grid's rows and columns; it may reach beyond the grid.

    Attributes:
        row: first row.
        column: first column.
        rows: number of rows.
        columns: number of columns.
    """

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class StackReader:
    """Reader of slices of prepared subjects.

    The tissue of each modality is mapped linearly so that its percentiles become -1 and 1, and values beyond are
    clipped; voxels outside the tissue are -1. Slices are never resized: they keep the source's pixels, cropped or
    padded to a grid around the middle of the tissue.

    Attributes:
        percentiles: percentiles of the tissue, per subject and modality.
        image_size: rows and columns of the grid; None keeps the source's, padded to a multiple of `multiple_of`.
        multiple_of: divisor of rows and columns.

    Raises:
        ConfigError: invalid numbers.
    """

    percentiles: tuple[float, float] = (0.5, 99.5)
    image_size: tuple[int, int] | None = None
    multiple_of: int = 4

    def __post_init__(self) -> None:
        low, high = self.percentiles
        problems = []
        if not 0 <= low < high <= 100:
            problems.append(f"data.percentiles={[low, high]} must increase and lie in 0..100")
        if self.multiple_of < 1:
            problems.append(f"data.multiple_of={self.multiple_of} must be 1 or more")
        elif self.image_size and any(side < 1 or side % self.multiple_of for side in self.image_size):
            problems.append(
                f"data.image_size={list(self.image_size)} must be multiples of data.multiple_of={self.multiple_of}"
            )
        if problems:
            raise ConfigError("; ".join(problems))

    def find_placement(self, subject: PreparedSubject) -> Placement:
        """Find the placement of a subject on its grid: all slices with tissue, cropped or padded, not resized."""
        slices, *planes = subject.box
        lengths = (subject.shape[0], subject.shape[1])
        sides = self.image_size or (None, None)
        ends = [
            fit_length(length, box, side, self.multiple_of)
            for length, box, side in zip(lengths, planes, sides, strict=True)
        ]
        return Placement(
            source=next(iter(subject.files.values())),
            shape=subject.shape,
            axis=AXIS,
            crop=(slices, *(crop for crop, _ in ends)),
            pad=((0, 0), *(pad for _, pad in ends)),
        )

    def find_problems(self, subject: PreparedSubject) -> list[str]:
        """Report tissue that the grid would cut off."""
        placement = self.find_placement(subject)
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

    def measure_intensity(self, subject: PreparedSubject) -> NDArray[np.float32]:
        """Return [M, 2] float32, the source's intensities that become -1 and 1."""
        known = subject.intensities.get(self.percentiles)
        if known is None:
            ends = [np.interp(self.percentiles, QUANTILES, row) for row in subject.quantiles]
            known = subject.intensities[self.percentiles] = np.asarray(ends, np.float32)
        return known

    def read_body(
        self, subject: PreparedSubject, placement: Placement, first: int, last: int, *, window: Window | None = None
    ) -> NDArray[np.bool_]:
        """Read the tissue mask [last - first, H, W] of slices numbered as in the source; see `read_planes`."""
        return self._paste(subject, subject.body, placement, first, last, np.zeros((), bool), window)

    def read_mask(
        self, subject: PreparedSubject, placement: Placement, first: int, last: int
    ) -> NDArray[np.uint8] | None:
        """Read the annotation [last - first, H, W]; None if the subject is not annotated."""
        mask = subject.mask
        return None if mask is None else self._paste(subject, mask, placement, first, last, np.zeros((), np.uint8))

    def read_planes(
        self,
        subject: PreparedSubject,
        placement: Placement,
        first: int,
        last: int,
        *,
        body: NDArray[np.bool_] | None = None,
        window: Window | None = None,
    ) -> NDArray[np.float32]:
        """Read normalised slices on a grid, or on a window of it.

        Args:
            subject: the subject.
            placement: the grid; a counterpart uses that of the subject it belongs to.
            first: number of the first slice, as in the source; beyond the ends the outermost slice is repeated.
            last: number after that of the last slice.
            body: [last - first, H, W] tissue mask of the grid or the window; None uses the subject's.
            window: rows and columns to read, without the cost of the others; None is the whole grid.

        Returns:
            [last - first, M, H, W] float32 in [-1, 1].
        """
        low, high = self.measure_intensity(subject).T[:, :, None, None]
        scale = 2 / np.maximum(high - low, np.float32(1e-12))
        # Voxels beyond the box of the subject's tissue are background, whatever value they have in the files.
        volume = subject.volume
        fill = np.floor(low).astype(volume.dtype)
        values = self._paste(subject, volume, placement, first, last, fill, window, dtype=np.float32)
        values -= low
        values *= scale
        values -= 1
        np.clip(values, -1, 1, out=values)
        inside = self.read_body(subject, placement, first, last, window=window) if body is None else body
        np.copyto(values, np.float32(OUTSIDE), where=~inside[:, None])
        return values

    def _paste(
        self,
        subject: PreparedSubject,
        array: NDArray[Any],
        placement: Placement,
        first: int,
        last: int,
        fill: NDArray[Any],
        window: Window | None = None,
        *,
        dtype: DTypeLike | None = None,
    ) -> NDArray[Any]:
        """Paste slices of a subject's box onto a grid or a window of it; only the bytes of those slices are read."""
        (start, stop), *box = subject.box
        view = window or Window(0, 0, *placement.grid[1:])
        numbers = np.clip(np.arange(first, last), 0, subject.shape[AXIS] - 1)
        result = np.empty((last - first, *array.shape[1:-2], view.rows, view.columns), dtype or array.dtype)
        result[...] = fill
        inside = (numbers >= start) & (numbers < stop)
        if not inside.any():
            return result
        on_view: list[slice] = []
        in_box: list[slice] = []
        for (low, high), (cut, end), (before, _), begin, count in zip(
            box, placement.crop[1:], placement.pad[1:], view[:2], view[2:], strict=True
        ):
            origin = begin + cut - before  # voxel of the source at the first row or column of the view
            shown = max(low, cut, origin), min(high, end, origin + count)
            if shown[0] >= shown[1]:
                return result
            on_view.append(slice(shown[0] - origin, shown[1] - origin))
            in_box.append(slice(shown[0] - low, shown[1] - low))
        for position in np.flatnonzero(inside):
            stored = array[numbers[position] - start]
            result[position, ..., on_view[0], on_view[1]] = stored[..., in_box[0], in_box[1]]
        return result


def make_overlapping_stacks(planes: Tensor, *, slices: int) -> Tensor:
    """Make all stacks of adjacent slices without copying; neighbouring stacks share memory.

    Args:
        planes: [S + slices - 1, M, H, W], contiguous.
        slices: slices per stack.

    Returns:
        [S, slices * M, H, W], slice-major and read-only: writing one value would change several stacks.

    Example:
        >>> import torch
        >>> from seewhy.data.domains.stacks import make_overlapping_stacks
        >>> planes = torch.arange(5.0).reshape(5, 1, 1, 1)
        >>> make_overlapping_stacks(planes, slices=3).flatten(1)
        tensor([[0., 1., 2.],
                [1., 2., 3.],
                [2., 3., 4.]])
    """
    count, modalities, rows, columns = planes.shape
    size = (count - slices + 1, slices * modalities, rows, columns)
    return torch.as_strided(planes.contiguous(), size, (modalities * rows * columns, rows * columns, columns, 1))


def move_stacks(stacks: Tensor, device: torch.device) -> Tensor:
    """Move the result of `make_overlapping_stacks` to a device, where neighbours share memory, too.

    PyTorch's `to` would first write all stacks to memory that is not page-locked, copy each slice once per stack, and
    wait for the copy.

    Args:
        stacks: [S, slices * M, H, W].
        device: target; copies of page-locked memory to a GPU are asynchronous.

    Returns:
        The same values, read-only.
    """
    count, channels, rows, columns = stacks.shape
    modalities = stacks.stride(0) // (rows * columns)
    planes = torch.as_strided(
        stacks, ((count - 1) * modalities + channels, rows, columns), (rows * columns, columns, 1)
    )
    return torch.as_strided(planes.to(device, non_blocking=device.type == "cuda"), stacks.size(), stacks.stride())
