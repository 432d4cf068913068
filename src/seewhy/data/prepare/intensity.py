"""Intensities of a volume brought to the range and type that is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError, nearest

__all__ = ["DTYPES", "WINDOWS", "background_value", "check_window", "stored", "tissue_fraction", "value_range"]

WINDOWS = ("minmax", "percentile", "none")
DTYPES = ("float32", "float16", "uint8", "source")
PERCENTILES = (0.5, 99.5)


def check_window(window: str, dtype: str) -> None:
    """Refuse names that do not exist and pairs that make no sense.

    Raises:
        ConfigError: with the nearest valid name.
    """
    if window not in WINDOWS:
        raise ConfigError(f"window={window!r} is unknown; {nearest(window, WINDOWS)}")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r} is unknown; {nearest(dtype, DTYPES)}")
    if dtype == "source" and window != "none":
        raise ConfigError(f"dtype='source' keeps the values as they are; window={window!r} changes them")


def background_value(images: Sequence[NDArray[Any]]) -> float | None:
    """The value around the body, or None where there is no uniform one.

    It is the most frequent value on the edges of the slices, and must hold more than half of them; so a
    skull-stripped head has one (0, or another constant after rescaling), a raw scan with noise in the air has not.
    """
    edges = np.concatenate([np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]) for image in images])
    values, counts = np.unique(edges, return_counts=True)
    largest = int(counts.argmax())
    return float(values[largest]) if 2 * counts[largest] > edges.size else None


def tissue_fraction(image: NDArray[Any], background: float | None) -> float:
    """Share of a slice's pixels that are not background; 1 where no background is known."""
    return 1.0 if background is None else float((image != background).mean())


def value_range(images: Sequence[NDArray[Any]], *, window: str, background: float | None) -> tuple[float, float] | None:
    """The values of one volume that a window maps to 0 and 1.

    Args:
        images: all slices of the volume, [rows, columns] each.
        window: `minmax` takes the volume's range (AME-CAM, WeakMedSAM); `percentile` the .5th and 99.5th percentile
            of the tissue; `none` takes nothing.
        background: the value around the body, left out of percentiles.

    Raises:
        DataError: a volume whose values leave no range.
    """
    if window == "none":
        return None
    if window == "minmax":
        low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    else:
        tissue = np.concatenate([_tissue(image, background) for image in images])
        low, high = np.percentile(tissue, PERCENTILES).tolist() if tissue.size else (0.0, 0.0)
    if not high > low:
        raise DataError(f"window={window!r} finds no range (all values are {low:g}); leave this case out")
    return low, high


def stored(image: NDArray[Any], limits: tuple[float, float] | None, dtype: str) -> NDArray[Any]:
    """A slice as it is written.

    Args:
        image: [rows, columns].
        limits: from `value_range`: mapped to 0 and 1, values beyond cut; None leaves the values alone.
        dtype: `float32`, `float16`, `uint8` (limits are then mapped to 0 and 255 and values rounded, as in
            WeakMedSAM), or `source`, the type of the source.

    Raises:
        DataError: values left alone that the type cannot hold.
    """
    if limits is None:
        return _unchanged(image, dtype)
    low, high = limits
    scaled = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8) if dtype == "uint8" else scaled.astype(dtype)


def _tissue(image: NDArray[Any], background: float | None) -> NDArray[Any]:
    return image.ravel() if background is None else image[image != background]


def _unchanged(image: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Values as they are, in another type; refused where that would change them beyond rounding."""
    if dtype == "source":
        return np.ascontiguousarray(image)
    if dtype == "uint8":
        if image.min() < 0 or image.max() > 255 or (image.dtype.kind == "f" and (image != np.rint(image)).any()):
            raise DataError(
                f"values from {image.min():g} to {image.max():g} do not fit uint8 unchanged; "
                "use window='minmax' or dtype='float32'"
            )
    elif dtype == "float16" and max(abs(float(image.min())), abs(float(image.max()))) > float(np.finfo(np.float16).max):
        raise DataError("values beyond 65504 do not fit float16; use window='minmax' or dtype='float32'")
    return image.astype(dtype)
