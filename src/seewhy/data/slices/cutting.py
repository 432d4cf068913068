"""Cut a volume into the slices of a prepared data set: without empty ones, in the window and type of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
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
        images: number → slice [rows, columns], or [modalities, rows, columns] of several volumes on one grid; all
            slices in order. Each modality has its own window; a slice is kept where any of them shows tissue.
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
    single = next(iter(images.values())).ndim == 2
    volumes = [list(images.values())] if single else [list(planes) for planes in zip(*images.values(), strict=True)]
    backgrounds = [find_background(planes) for planes in volumes]
    kept = [
        (number, place)
        for place, number in enumerate(images)
        if number % every == 0
        and (
            not tissue_only
            or any(
                measure_tissue_fraction(planes[place], background) >= MINIMUM_TISSUE
                for planes, background in zip(volumes, backgrounds, strict=True)
            )
        )
    ]
    if not kept:
        raise DataError("no slice contains tissue: the volume is empty, or `every` exceeds its number of slices")
    try:
        limits = [
            find_value_range(planes, window=window, background=background)
            for planes, background in zip(volumes, backgrounds, strict=True)
        ]
        cut = {
            number: [
                convert_intensities(planes[place], ends, dtype) for planes, ends in zip(volumes, limits, strict=True)
            ]
            for number, place in kept
        }
        return {number: planes[0] if single else np.stack(planes) for number, planes in cut.items()}
    except RunError as error:
        raise DataError(str(error)) from None
