"""Floors of segmentation: guesses from intensities and body alone, which every method has to beat.

On real FLAIR a three-class Otsu threshold within the brain beats most published weakly-supervised methods, so a score
without this comparison proves little. No floor uses a trained weight, and only `floor_window` reads the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, label
from torch import Tensor

from seewhy_run.arrays.midline import find_midline, mirror_slices
from seewhy_run.arrays.statistics import otsu_cuts

__all__ = [
    "Guess",
    "best_window",
    "centre_prior",
    "mirror_difference",
    "otsu_thresholds",
    "slice_floors",
    "volume_floors",
]

ONE_SIGMA = 0.6065306597126334
"""exp(-1/2): height of a Gaussian one standard deviation from its centre."""


class Guess(NamedTuple):
    """Prediction of a floor: a mask, a map of scores, or both; None where the floor does not define one."""

    mask: Tensor | None
    """[S, H, W] bool."""
    score: Tensor | None
    """[S, H, W] float32, higher means more likely lesion."""


def slice_floors(image: Tensor, body: Tensor, *, channels: Sequence[str] = (), channel: int = 0) -> dict[str, Guess]:
    """All guesses for the slices of one patient, from intensities and body.

    Args:
        image: [S, C, H, W] normalised slices.
        body: [S, H, W] bool, pixels of tissue.
        channels: names of the channels, where each is a modality (`t1`, `t1ce`) or a difference (`t1ce-t1`); empty
            for channels of one modality, which are averaged.
        channel: with names, the position of the channel from which the floors of intensity are made.

    Returns:
        Name → guess: `floor_body` (all tissue is lesion; its average precision is the chance level),
        `floor_otsu` and `floor_otsu3` (the brightest of two or three classes of the patient's tissue),
        `floor_centre` (Gaussian around the centre of each slice's body; the mask is within one standard deviation),
        `floor_intensity` (brighter means more likely lesion; a map only), `floor_nothing` (no pixel, which is right
        for healthy patients; a mask only); `floor_mirror` (how much the tissue differs from the other side), where
        the outline of the body has a midline; `floor_subtraction` (`t1ce` minus `t1`), where both are channels. The
        masks of the last two are the brightest of three classes of their map.
    """
    intensity = torch.nan_to_num(image.detach().float())
    intensity = intensity[:, channel] if channels else intensity.mean(dim=1)
    centre = centre_prior(body)
    floors = {
        "floor_body": Guess(body, body.float()),
        "floor_otsu": Guess(_brightest_class(intensity, body, classes=2), None),
        "floor_otsu3": Guess(_brightest_class(intensity, body, classes=3), None),
        "floor_centre": Guess((centre >= ONE_SIGMA) & body, centre),
        "floor_intensity": Guess(None, intensity),
        "floor_nothing": Guess(torch.zeros_like(body), None),
    }
    asymmetry = mirror_difference(intensity, body)
    if asymmetry is not None:
        floors["floor_mirror"] = Guess(_brightest_class(asymmetry, body, classes=3), asymmetry)
    if {"t1ce", "t1"} <= set(channels):
        subtraction = image[:, channels.index("t1ce")].float() - image[:, channels.index("t1")].float()
        floors["floor_subtraction"] = Guess(_brightest_class(subtraction, body, classes=3), subtraction)
    return floors


def mirror_difference(intensity: Tensor, body: Tensor, *, sigma: float = 2.0) -> Tensor | None:
    """Absolute difference of slices and their mirror image about the midline, after smoothing.

    Args:
        intensity: [S, H, W].
        body: [S, H, W] bool.
        sigma: of the smoothing in pixels, because no midline fits to a pixel.

    Returns:
        [S, H, W] of 0 or more, 0 where either side is outside the body; None if the body has no midline.
    """
    values, inside = intensity.detach().cpu().numpy().astype(np.float32), body.cpu().numpy()
    midline = find_midline(values, inside)
    if midline is None:
        return None
    smooth = gaussian_filter(np.where(inside, values, values[inside].mean()), (0, sigma, sigma))
    both = inside & (mirror_slices(inside, midline) > 0.5)
    return torch.from_numpy(np.abs(smooth - mirror_slices(smooth, midline)) * both).to(intensity.device)


def centre_prior(body: Tensor) -> Tensor:
    """Gaussian on each slice with the mean and standard deviations (rows, columns) of the body's pixel positions.

    Args:
        body: [S, H, W] bool.

    Returns:
        [S, H, W] float32 in [0, 1], 1 at the body's centroid; 0 on slices without body.
    """
    mass = body.float()
    total = mass.sum(dim=(1, 2)).clamp(min=1.0)
    exponent = torch.zeros_like(mass)
    for axis in (1, 2):
        position = torch.arange(body.shape[axis], dtype=torch.float32, device=body.device)
        profile = mass.sum(dim=3 - axis)
        mean = (profile * position).sum(dim=1) / total
        offset = position[None, :] - mean[:, None]
        variance = ((profile * offset**2).sum(dim=1) / total).clamp(min=1e-6)
        squared = offset**2 / variance[:, None]
        exponent = exponent + (squared[:, :, None] if axis == 1 else squared[:, None, :])
    return torch.exp(-0.5 * exponent) * body.flatten(1).any(dim=1)[:, None, None]


def _brightest_class(intensity: Tensor, body: Tensor, *, classes: int) -> Tensor:
    tissue = intensity[body].cpu().numpy().astype(np.float64)
    if tissue.size == 0:
        return torch.zeros_like(body)
    return (intensity.double() > otsu_thresholds(tissue, classes=classes)[-1]) & body


BINS = 512
"""Bins of the histogram in `best_window`."""


def volume_floors(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Guesses for each class of a volume, from the first channel of the image.

    - `floor_window`: the interval of intensities with the best Dice, chosen per class and volume *with its labels*; no
      threshold can do better.
    - `floor_otsu3`: the brightest of three intensity classes (Otsu), the same for every class.
    - `floor_component`: its largest connected component, e.g. the skeleton in CT.
    - `floor_nothing`: no voxel.

    Args:
        image: [C, Z, Y, X].
        truth: [K, Z, Y, X] bool, used only by `floor_window`.

    Returns:
        Name → [K, Z, Y, X] bool.
    """
    values = image[0].detach().float().cpu().numpy()
    masks = truth.cpu().numpy()
    windows = []
    for mask in masks:
        low, high = best_window(values, mask)
        windows.append((values >= low) & (values <= high))
    bright = values > otsu_thresholds(values, classes=3)[-1]
    guesses = {
        "floor_window": np.stack(windows),
        "floor_otsu3": np.broadcast_to(bright, masks.shape),
        "floor_component": np.broadcast_to(_largest_component(bright), masks.shape),
        "floor_nothing": np.zeros_like(masks),
    }
    return {name: torch.from_numpy(np.array(guess)) for name, guess in guesses.items()}


def best_window(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Interval of intensities whose voxels have the highest Dice with a mask.

    Every pair of edges of a 512-bin histogram is tried. For an empty mask the interval is empty.

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
    total = np.concatenate([[0], np.cumsum(np.histogram(values, edges)[0])])
    true, predicted = hits[None, :] - hits[:, None], total[None, :] - total[:, None]
    dice = 2 * true / np.maximum(predicted + int(mask.sum()), 1)  # below 1 only where the ends are swapped
    dice = np.triu(dice)
    low, high = np.unravel_index(int(dice.argmax()), dice.shape)
    # Bins are half open, except the last one.
    return float(edges[low]), float(edges[high] if high == BINS else np.nextafter(edges[high], -np.inf))


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest face-connected component."""
    components, count = label(mask)
    if not count:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = components == int(sizes.argmax())
    return largest


def otsu_thresholds(values: ArrayLike, *, classes: int = 2, bins: int = 256) -> list[float]:
    """Thresholds that maximise the variance between classes (Otsu 1979, eq. 14; for three classes eq. 22).

    Args:
        values: finite intensities of any shape.
        classes: 2 or 3.
        bins: number of histogram bins, evenly spaced from the lowest to the highest value.

    Returns:
        `classes - 1` increasing thresholds. A value belongs to the upper class if it is *greater* than the threshold.
        With fewer distinct values than classes, every threshold is the highest value, so nothing lies above it.

    Raises:
        ValueError: there are no values, or `classes` is not 2 or 3.

    Example:
        >>> dark, medium, bright = [10, 11, 12], [50, 51], [90, 91, 92]
        >>> low, high = otsu_thresholds([*dark, *medium, *bright], classes=3)
        >>> 12 <= low < 50 and 51 <= high < 90
        True
    """
    if classes not in (2, 3):
        raise ValueError(f"classes={classes} is not supported; expected 2 or 3")
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError("no values to threshold")
    low, high = float(data.min()), float(data.max())
    counts, edges = np.histogram(data, bins=bins, range=(low, high) if high > low else (low, low + 1.0))
    if np.count_nonzero(counts) < classes:
        return [high] * (classes - 1)
    # A value on the right edge of a bin is counted in the next bin, so the threshold is the largest float below it.
    return [float(np.nextafter(edges[cut + 1], -np.inf)) for cut in otsu_cuts(counts, classes=classes)]
