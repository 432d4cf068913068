"""Tissue of a scan, found from intensities alone; needs scipy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seewhy_run.arrays.statistics import MEASURED_SLICES, IntensityStatistics, measure

__all__ = ["body_mask", "find_box", "segment_tissue"]


def body_mask(image: NDArray[np.float32], statistics: IntensityStatistics) -> NDArray[np.bool_]:
    """Find the pixels of the body from intensities alone: the largest connected part, with its holes filled.

    Args:
        image: raw slice [C, H, W].
        statistics: of its patient.

    Returns:
        [H, W] bool; all False for a slice without body.
    """
    gray = image.mean(0)
    s = statistics
    above = gray != np.float32(s.background) if np.isnan(s.threshold) else gray > s.threshold
    parts, count = ndimage.label(above)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        above = parts == sizes.argmax()
    return np.asarray(ndimage.binary_fill_holes(above), dtype=bool)


def segment_tissue(volumes: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Segment the tissue of all modalities: the largest connected part, holes filled slice by slice.

    Args:
        volumes: [D, H, W] per modality.

    Returns:
        [D, H, W] bool.
    """
    above = np.zeros(volumes[0].shape, bool)
    for volume in volumes:
        count = min(len(volume), MEASURED_SLICES)
        indices = np.linspace(0, len(volume) - 1, count).round().astype(int)
        intensity = measure([volume[index][None].astype(np.float32) for index in indices])
        above |= volume != intensity.background if np.isnan(intensity.threshold) else volume > intensity.threshold
    if not above.any():
        return above
    window = tuple(slice(start, stop) for start, stop in find_box(above))
    inner = above[window]
    parts, count = ndimage.label(inner)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        inner = parts == sizes.argmax()
    body = np.zeros_like(above)
    body[window] = np.stack([ndimage.binary_fill_holes(plane) for plane in inner])
    return body


def find_box(body: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Find the first True voxel and the one after the last, per axis."""
    ends = []
    for axis in range(body.ndim):
        indices = np.flatnonzero(body.any(axis=tuple(other for other in range(body.ndim) if other != axis)))
        ends.append((int(indices[0]), int(indices[-1]) + 1))
    return tuple(ends)
