"""Cut a volume into the slices of a prepared data set: without empty ones, in the window and type of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy_run.arrays.slicing import (
    MINIMUM_TISSUE,
    convert_intensities,
    find_background,
    find_value_range,
    measure_tissue_fraction,
)
from seewhy_run.errors import RunError

__all__ = ["cut_slices"]


def cut_slices(
    images: Mapping[int, NDArray[Any]], *, window: str, dtype: str, every: int = 1, tissue_only: bool = False
) -> dict[int, NDArray[Any]]:
    """Choose the slices of a volume, and convert them to what is stored.

    Args:
        images: number → slice [rows, columns], all of the volume, in order.
        window: `minmax`, `percentile` or `none`, see `seewhy_run.arrays.slicing.find_value_range`.
        dtype: of the stored slices, see `seewhy_run.arrays.slicing.convert_intensities`.
        every: keep slices 0, n, 2n … of the volume.
        tissue_only: leave out slices in which less than 1 % of the pixels differ from the background.

    Returns:
        Number of the slice → its stored values.

    Raises:
        DataError: no slice is left, or values that do not fit the window or the type.

    Example:
        >>> import numpy as np
        >>> head = np.zeros((8, 8))
        >>> head[2:6, 2:6] = 2
        >>> cut = cut_slices({0: np.zeros((8, 8)), 1: head}, window="minmax", dtype="float32", tissue_only=True)
        >>> list(cut), float(cut[1].max())
        ([1], 1.0)
    """
    planes = list(images.values())
    background = find_background(planes)
    kept = [
        number
        for number, image in images.items()
        if number % every == 0 and (not tissue_only or measure_tissue_fraction(image, background) >= MINIMUM_TISSUE)
    ]
    if not kept:
        raise DataError("no slice contains tissue: the volume is empty, or `every` exceeds its number of slices")
    try:
        limits = find_value_range(planes, window=window, background=background)
        return {number: convert_intensities(images[number], limits, dtype) for number in kept}
    except RunError as error:
        raise DataError(str(error)) from None
