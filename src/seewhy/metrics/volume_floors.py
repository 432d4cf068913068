"""What intensities alone give away of a volume's classes: the floors that a segmentation is to be held against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from torch import Tensor

from seewhy.metrics.otsu import otsu_thresholds

__all__ = ["best_window", "volume_floors"]

BINS = 512


def volume_floors(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Guesses about each class from the first channel of the image.

    - `floor_window`: the interval of intensities with the best Dice, found for each class and volume *with its
      labels*: no threshold, however well chosen, does better.
    - `floor_otsu3`: the brightest of three classes of intensity (Otsu), for every class alike.
    - `floor_component`: the largest connected part of that, e.g. the skeleton in CT.
    - `floor_nothing`: no voxel.

    Args:
        image: [C, Z, Y, X].
        truth: [K, Z, Y, X] bool, read by `floor_window` alone.

    Returns:
        Name → [K, Z, Y, X] bool.
    """
    values = image[0].detach().float().cpu().numpy()
    masks = truth.cpu().numpy()
    windows = []
    for one in masks:
        low, high = best_window(values, one)
        windows.append((values >= low) & (values <= high))
    bright = values > otsu_thresholds(values, classes=3)[-1]
    found = {
        "floor_window": np.stack(windows),
        "floor_otsu3": np.broadcast_to(bright, masks.shape),
        "floor_component": np.broadcast_to(_largest(bright), masks.shape),
        "floor_nothing": np.zeros_like(masks),
    }
    return {name: torch.from_numpy(np.array(one)) for name, one in found.items()}


def best_window(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Ends of the interval of intensities whose voxels have the highest Dice with a mask.

    Every pair of edges of a histogram of 512 bins is tried. With an empty mask the interval is empty.

    Args:
        values: intensities of any shape.
        mask: of the same shape.
    """
    if not mask.any():
        return np.inf, -np.inf
    inside = values[mask]
    edges = np.linspace(float(inside.min()), float(inside.max()), BINS + 1)
    if edges[0] == edges[-1]:
        return float(edges[0]), float(edges[-1])
    hits = np.concatenate([[0], np.cumsum(np.histogram(inside, edges)[0])])
    every = np.concatenate([[0], np.cumsum(np.histogram(values, edges)[0])])
    found, called = hits[None, :] - hits[:, None], every[None, :] - every[:, None]
    dice = 2 * found / np.maximum(called + int(mask.sum()), 1)  # below 1 only where the ends are swapped
    dice = np.triu(dice)
    low, high = np.unravel_index(int(dice.argmax()), dice.shape)
    # Bins are half open but for the last one.
    return float(edges[low]), float(edges[high] if high == BINS else np.nextafter(edges[high], -np.inf))


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part (by faces)."""
    parts, count = label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = parts == int(sizes.argmax())
    return largest
