"""Cut a volume into the slices of a prepared data set: without empty ones, in the window and type of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy_run.arrays.slicing import cut_volumes
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
    options = {"window": window, "dtype": dtype, "every": every, "tissue_only": tissue_only}
    try:
        kept, cut = cut_volumes(volumes, numbers=list(images), **options)  # type: ignore[arg-type]
        slices = cut[0] if single else [np.stack(planes) for planes in zip(*cut, strict=True)]
        return dict(zip(kept, slices, strict=True))
    except RunError as error:
        raise DataError(str(error)) from None
