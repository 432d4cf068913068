"""Intensities of the slices of one volume as a data set stores them: background, window and type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy_run.errors import RunError

__all__ = ["convert_intensities", "cut_volumes", "find_background", "find_value_range", "measure_tissue_fraction"]

PERCENTILES = (0.5, 99.5)
MINIMUM_TISSUE = 0.01
"""Slices with a smaller share of tissue show a tip of the body or air."""


def cut_volumes(
    volumes: Sequence[Sequence[NDArray[Any]]],
    *,
    window: str,
    dtype: str,
    every: int,
    tissue_only: bool,
    numbers: Sequence[int] | None = None,
) -> tuple[list[int], list[list[NDArray[Any]]]]:
    """Choose the slices of volumes on one grid, and convert them to what is stored.

    Each volume has its own background and window; a slice is kept where any of them shows tissue.

    Args:
        volumes: all slices of each, [rows, columns].
        window: see `find_value_range`.
        dtype: see `convert_intensities`.
        every: keep slices 0, n, 2n …
        tissue_only: leave out slices in which less than 1 % of the pixels differ from the background.
        numbers: of the slices; None counts from 0.

    Returns:
        Numbers of the kept slices, and their stored values for each volume.

    Raises:
        RunError: no slice is left, or values that do not fit the window or the type.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.slicing import cut_volumes
        >>> head = np.zeros((8, 8))
        >>> head[2:6, 2:6] = 2
        >>> options = {"window": "minmax", "dtype": "float32", "every": 1, "tissue_only": True}
        >>> numbers, [planes] = cut_volumes([[np.zeros((8, 8)), head]], **options)
        >>> numbers, float(planes[0].max())
        ([1], 1.0)
    """
    names = list(range(len(volumes[0]))) if numbers is None else list(numbers)
    backgrounds = [find_background(planes) for planes in volumes]
    places = [
        place
        for place, number in enumerate(names)
        if number % every == 0
        and (
            not tissue_only
            or any(
                measure_tissue_fraction(planes[place], background) >= MINIMUM_TISSUE
                for planes, background in zip(volumes, backgrounds, strict=True)
            )
        )
    ]
    if not places:
        raise RunError("no slice contains tissue: the volume is empty, or `every` exceeds its number of slices")
    limits = [
        find_value_range(planes, window=window, background=background)
        for planes, background in zip(volumes, backgrounds, strict=True)
    ]
    cut = [
        [convert_intensities(planes[place], ends, dtype) for place in places]
        for planes, ends in zip(volumes, limits, strict=True)
    ]
    return [names[place] for place in places], cut


def find_background(images: Sequence[NDArray[Any]]) -> float | None:
    """Find the value around the body; None if it is not uniform.

    It is the most frequent value on the edges of the slices and must fill more than half of them: true for a
    skull-stripped head (0, or another constant after rescaling), not for a raw scan with noise in the air.

    Args:
        images: all slices of a volume, [rows, columns] each.
    """
    edges = np.concatenate([np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]) for image in images])
    values, counts = np.unique(edges, return_counts=True)
    largest = int(counts.argmax())
    return float(values[largest]) if 2 * counts[largest] > edges.size else None


def measure_tissue_fraction(image: NDArray[Any], background: float | None) -> float:
    """Compute the share of a slice's pixels that are not background; 1 if the background is unknown."""
    return 1.0 if background is None else float((image != background).mean())


def find_value_range(
    images: Sequence[NDArray[Any]], *, window: str, background: float | None
) -> tuple[float, float] | None:
    """Find the values of one volume that a window maps to 0 and 1.

    Args:
        images: all slices of the volume, [rows, columns] each.
        window: `minmax` is the volume's range (AME-CAM, WeakMedSAM); `percentile` the .5th and 99.5th percentile of
            the tissue; `none` keeps the values.
        background: the value around the body, excluded from percentiles.

    Raises:
        RunError: a volume of a single value.
    """
    if window == "none":
        return None
    if window == "minmax":
        low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    else:
        tissue = np.concatenate([_select_tissue(image, background) for image in images])
        low, high = np.percentile(tissue, PERCENTILES).tolist() if tissue.size else (0.0, 0.0)
    if not high > low:
        raise RunError(f"window={window!r} needs a range of values, but all are {low:g}; leave this case out")
    return low, high


def convert_intensities(image: NDArray[Any], limits: tuple[float, float] | None, dtype: str) -> NDArray[Any]:
    """Scale a slice and convert it to the stored type.

    Args:
        image: [rows, columns].
        limits: from `find_value_range`, mapped to 0 and 1, values beyond are clipped; None keeps the values.
        dtype: `float32`, `float16`, `uint8` (limits are then mapped to 0 and 255 and values rounded, as in
            WeakMedSAM), or `source`, the type of the source.

    Raises:
        RunError: unscaled values that the type cannot represent.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.slicing import convert_intensities
        >>> convert_intensities(np.array([[0, 50, 200]]), (0.0, 100.0), "uint8")
        array([[  0, 128, 255]], dtype=uint8)
    """
    if limits is None:
        return _cast_exactly(image, dtype)
    low, high = limits
    scaled = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8) if dtype == "uint8" else scaled.astype(dtype)


def _select_tissue(image: NDArray[Any], background: float | None) -> NDArray[Any]:
    return image.ravel() if background is None else image[image != background]


def _cast_exactly(image: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Convert values to another type; raise `RunError` if that changes them beyond rounding."""
    if dtype == "source":
        return np.ascontiguousarray(image)
    if dtype == "uint8":
        if image.min() < 0 or image.max() > 255 or (image.dtype.kind == "f" and (image != np.rint(image)).any()):
            raise RunError(
                f"values from {image.min():g} to {image.max():g} do not fit uint8 unchanged; "
                "use window='minmax' or dtype='float32'"
            )
    elif dtype == "float16" and max(abs(float(image.min())), abs(float(image.max()))) > float(np.finfo(np.float16).max):
        raise RunError("values beyond 65504 do not fit float16; use window='minmax' or dtype='float32'")
    return image.astype(dtype)
