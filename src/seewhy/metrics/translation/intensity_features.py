"""Hand-made features of slices, where no trained network is to be had: brightness and sharpness of the tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

__all__ = ["FEATURES", "intensity_features"]

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SLOPES = (0.5, 0.9, 0.99)
"""Quantiles of the gradient's magnitude."""
SCALES = (0.0, 1.5)
"""Standard deviations in pixels of the smoothing before the gradient: grain and blur, then edges of tissue."""
RIM = 2
"""Pixels inside the tissue's outline where no gradient is taken, since the step to the background would be seen."""
FEATURES = len(QUANTILES) + len(SCALES) * len(SLOPES)


def intensity_features(image: NDArray[np.floating], body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Quantiles of the tissue's values, and of their slopes at two scales, slice by slice and modality by modality.

    They see contrast, brightness, noise and sharpness. They see neither shapes nor where anything is: a picture whose
    pixels were shuffled in blobs looks the same to them.

    Args:
        image: [N, M, H, W] in [-1, 1].
        body: [N, H, W], where there is tissue; each slice needs some.

    Returns:
        [N, M, `FEATURES`] float32.
    """
    inner = [_without_rim(inside) for inside in body]
    found = np.empty((*image.shape[:2], FEATURES), np.float32)
    for n, m in np.ndindex(*image.shape[:2]):
        plane = np.asarray(image[n, m], np.float32)
        values = [np.quantile(plane[body[n]], QUANTILES)]
        for scale in SCALES:
            smooth = _smoothed(plane, body[n], scale) if scale else plane
            values.append(np.quantile(np.hypot(*np.gradient(smooth))[inner[n]], SLOPES))
        found[n, m] = np.concatenate(values)
    return found


def _smoothed(plane: NDArray[np.float32], inside: NDArray[np.bool_], scale: float) -> NDArray[np.float32]:
    """Gaussian mean of the tissue nearby, to which the background adds nothing."""
    values, weight = (gaussian_filter(np.asarray(given, np.float32), scale) for given in (plane * inside, inside))
    return np.asarray(values / np.maximum(weight, np.float32(1e-6)), np.float32)


def _without_rim(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The tissue without its outline, or all of it where that leaves nothing."""
    inner: NDArray[np.bool_] = binary_erosion(body, iterations=RIM)
    return inner if inner.any() else body
