"""What a patient's images give away to one who knows nothing: the scores every method is to be held against.

On real FLAIR a three-class Otsu threshold in the brain beats most published weakly-supervised methods, so a
score without this beside it proves little. No floor sees a label, a mask or a trained weight.

Otsu's thresholds: where a histogram falls apart into two or three classes.

What intensities alone give away of a volume's classes: the floors that a segmentation is to be held against.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label
from torch import Tensor

__all__ = ["Guess", "best_window", "centre_prior", "floors", "otsu_thresholds", "volume_floors"]


def otsu_thresholds(values: ArrayLike, *, classes: int = 2, bins: int = 256) -> list[float]:
    """Thresholds that put most of the variance between the classes (Otsu 1979, eq. 14 and, for three, 22).

    Every pair of cuts of the histogram is tried, by cumulative sums.

    Args:
        values: intensities of any shape, finite.
        classes: 2 or 3.
        bins: of the histogram, evenly spread from the lowest to the highest value.

    Returns:
        `classes - 1` increasing thresholds; a value belongs to the class above where it is *greater*. With
        fewer distinct values than classes the highest value is given, so that nothing lies above it.

    Raises:
        ValueError: no values, or another number of classes.
    """
    if classes not in (2, 3):
        raise ValueError(f"classes={classes}: Otsu is here for 2 or 3 classes")
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError("no values to threshold")
    low, high = float(data.min()), float(data.max())
    counts, edges = np.histogram(data, bins=bins, range=(low, high) if high > low else (low, low + 1.0))
    if np.count_nonzero(counts) < classes:
        return [high] * (classes - 1)
    cuts = _best_cuts(counts.astype(np.float64), classes=classes)
    # The right edge of a bin belongs to the next one, hence the largest float below it.
    return [float(np.nextafter(edges[cut + 1], -np.inf)) for cut in cuts]


def _best_cuts(counts: NDArray[np.float64], *, classes: int) -> list[int]:
    """Last bin of every class but the highest."""
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * np.arange(len(counts)))])

    def scatter(start: NDArray[np.int64] | int, stop: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Mass times squared mean of bins start..stop-1; summed, the variance between up to constants."""
        total = np.asarray(mass[stop] - mass[start])
        return np.divide(
            np.asarray(moment[stop] - moment[start]) ** 2, total, out=np.zeros_like(total), where=total > 0
        )

    edge = np.arange(1, len(counts))
    if classes == 2:
        return [int(np.argmax(scatter(0, edge) + scatter(edge, len(counts))))]
    first, second = edge[:, None], edge[None, :]
    between = scatter(0, first) + scatter(first, second) + scatter(second, len(counts))
    between = np.where(first < second, between, -np.inf)
    lower, upper = np.unravel_index(int(np.argmax(between)), between.shape)
    return [int(lower), int(upper)]


ONE_SIGMA = 0.6065306597126334
"""exp(-1/2): height of a Gaussian one standard deviation from its centre."""


class Guess(NamedTuple):
    """A floor's answer: a mask, a map of scores, or both; None for what it does not give."""

    mask: Tensor | None
    """[S, H, W] bool."""
    score: Tensor | None
    """[S, H, W] float32, higher is more lesion."""


def floors(image: Tensor, body: Tensor) -> dict[str, Guess]:
    """All guesses about one patient from its intensities and its body.

    Args:
        image: [S, C, H, W] normalised slices; channels are averaged into one intensity.
        body: [S, H, W] bool, the pixels of tissue.

    Returns:
        Name → guess: `floor_body` (all tissue is lesion; its average precision is the chance level),
        `floor_otsu` and `floor_otsu3` (brightest of two and of three classes of the patient's tissue),
        `floor_centre` (Gaussian around the centre of each slice's body; mask within one standard deviation),
        `floor_intensity` (brighter is more lesion; a map only).
    """
    intensity = torch.nan_to_num(image.detach().float().mean(dim=1))
    centre = centre_prior(body)
    return {
        "floor_body": Guess(body, body.float()),
        "floor_otsu": Guess(_brightest(intensity, body, classes=2), None),
        "floor_otsu3": Guess(_brightest(intensity, body, classes=3), None),
        "floor_centre": Guess((centre >= ONE_SIGMA) & body, centre),
        "floor_intensity": Guess(None, intensity),
    }


def centre_prior(body: Tensor) -> Tensor:
    """Gaussian on each slice with the mean and the standard deviations (rows, columns) of its body's pixels.

    Args:
        body: [S, H, W] bool.

    Returns:
        [S, H, W] float32 in [0, 1], 1 at the body's centroid; 0 on a slice without body.
    """
    mass = body.float()
    total = mass.sum(dim=(1, 2)).clamp(min=1.0)
    exponent = torch.zeros_like(mass)
    for axis in (1, 2):
        place = torch.arange(body.shape[axis], dtype=torch.float32, device=body.device)
        profile = mass.sum(dim=3 - axis)
        mean = (profile * place).sum(dim=1) / total
        offset = place[None, :] - mean[:, None]
        variance = ((profile * offset**2).sum(dim=1) / total).clamp(min=1e-6)
        squared = offset**2 / variance[:, None]
        exponent = exponent + (squared[:, :, None] if axis == 1 else squared[:, None, :])
    return torch.exp(-0.5 * exponent) * body.flatten(1).any(dim=1)[:, None, None]


def _brightest(intensity: Tensor, body: Tensor, *, classes: int) -> Tensor:
    tissue = intensity[body].cpu().numpy().astype(np.float64)
    if tissue.size == 0:
        return torch.zeros_like(body)
    return (intensity.double() > otsu_thresholds(tissue, classes=classes)[-1]) & body


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
