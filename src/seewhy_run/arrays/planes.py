"""Find the plane of a scan with a single one, and reduce colours to grey."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["reduce_to_grey", "take_plane"]


def take_plane(scan: NDArray[Any]) -> NDArray[Any] | None:
    """Return the only plane of a scan, rows first: the first axis of a scan is x, the columns of a picture.

    Args:
        scan: [X, Y, 1] (the single plane may be along any axis), or [X, Y, 3] or [3, X, Y] for colours.

    Returns:
        [Y, X], or [Y, X, 3] or [3, Y, X] for colours; None for other shapes.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.planes import take_plane
        >>> take_plane(np.zeros((4, 5, 1))).shape
        (5, 4)
    """
    single = [axis for axis in (2, 0, 1) if scan.shape[axis] == 1]
    if single:
        return np.take(scan, 0, single[0]).swapaxes(0, 1)
    if scan.ndim == 3 and 3 in (scan.shape[0], scan.shape[2]):
        return scan.swapaxes(0, 1) if scan.shape[2] == 3 else scan.swapaxes(1, 2)
    return None


def reduce_to_grey(picture: NDArray[Any]) -> NDArray[Any] | None:
    """Reduce three equal channels to one.

    Args:
        picture: [H, W], or [H, W, 3] or [3, H, W].

    Returns:
        [H, W], or the picture itself if it has no three channels; None if the channels differ.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.planes import reduce_to_grey
        >>> reduce_to_grey(np.ones((4, 5, 3))).shape
        (4, 5)
    """
    if picture.ndim != 3 or 3 not in (picture.shape[0], picture.shape[2]):
        return picture
    first, second, third = np.moveaxis(picture, 0 if picture.shape[0] == 3 else 2, 0)
    return first if np.array_equal(first, second) and np.array_equal(first, third) else None
