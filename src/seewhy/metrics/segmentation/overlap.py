"""Agreement of a mask or a map with the annotation: Dice, IoU, average precision, HD95 and clDice.

These are written here because Dice, IoU and average precision are exact over all pixels of a patient, with NaN where
the annotation is empty. torchmetrics returns 0 or a warning there; its average precision also sorts all pixels at once.
HD95 and the skeleton of clDice are MONAI's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.losses.cldice import soft_skel
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import binary_dilation, distance_transform_edt, generate_binary_structure
from scipy.ndimage import label as label_components
from torch import Tensor

__all__ = [
    "average_precision", "cldice", "dice", "hausdorff95_slices", "hausdorff95_volume", "iou", "lesion_wise_dice",
    "skeleton",
]  # fmt: skip


def dice(prediction: Tensor, mask: Tensor) -> float:
    """Dice coefficient 2|P∩M| / (|P|+|M|) over all pixels (Dice 1945).

    Args:
        prediction: bool of any shape.
        mask: bool of the same shape.

    Returns:
        In [0, 1]; NaN if the mask is empty. False positives on slices or volumes without a lesion are measured by
        `fp_area` and `fp_slices` instead.

    Example:
        >>> mask = torch.tensor([True, True, False, False])
        >>> dice(torch.tensor([True, True, True, False]), mask)
        0.8
    """
    positive = int(mask.sum())
    if positive == 0:
        return float("nan")
    return 2.0 * int((prediction & mask).sum()) / (int(prediction.sum()) + positive)


def iou(prediction: Tensor, mask: Tensor) -> float:
    """Intersection over union |P∩M| / |P∪M| (Jaccard 1912); arguments and NaN as in `dice`.

    Example:
        >>> iou(torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False]))
        0.5
    """
    if not bool(mask.any()):
        return float("nan")
    return int((prediction & mask).sum()) / int((prediction | mask).sum())


JOINED = 3
"""Parts of an annotated lesion that this many dilations join are one lesion (BraTS 2023)."""


def lesion_wise_dice(prediction: Tensor, mask: Tensor) -> float:
    """Dice of every lesion, averaged over lesions and false lesions (BraTS 2023, lesion-wise metrics).

    Annotated parts that three dilations join are one lesion. Its Dice is with all predicted components that touch the
    dilated lesion, 0 if none does. A predicted component that touches no lesion counts as one more lesion with Dice 0,
    so every false region costs as much as a missed lesion. Small lesions count like large ones.

    Args:
        prediction: [Z, Y, X] bool.
        mask: [Z, Y, X] bool.

    Returns:
        In [0, 1]. Without any lesion it is 1 if nothing is predicted and else 0, so healthy patients count too.

    Example:
        >>> mask, prediction = torch.zeros(2, 4, 32, 32, dtype=torch.bool)
        >>> mask[1, 2:6, 2:6] = prediction[1, 2:6, 2:6] = True
        >>> lesion_wise_dice(prediction, mask)
        1.0
        >>> prediction[1, 20:22, 20:22] = True  # a false region far away
        >>> lesion_wise_dice(prediction, mask)
        0.5
    """
    truth, guess = mask.cpu().numpy().astype(bool), prediction.cpu().numpy().astype(bool)
    if not truth.any() or not guess.any():
        return float(truth.any() == guess.any())
    box = _enclosing_box(truth | guess, margin=JOINED)
    truth, guess = truth[box], guess[box]
    neighbours = generate_binary_structure(3, 3)
    areas, lesions = label_components(binary_dilation(truth, neighbours, iterations=JOINED), neighbours)
    parts, count = label_components(guess, neighbours)
    # Pixels per pair of dilated lesion and predicted component.
    touching = np.histogram2d(
        areas.ravel(), parts.ravel(), bins=(np.arange(lesions + 2) - 0.5, np.arange(count + 2) - 0.5)
    )[0]
    sizes, hits = np.bincount(parts.ravel(), minlength=count + 1), touching[1:, 1:] > 0
    total = 0.0
    for k, found in enumerate(hits, start=1):
        lesion = truth & (areas == k)
        overlap = int(np.isin(parts[lesion], 1 + np.flatnonzero(found)).sum())
        total += 2 * overlap / (int(lesion.sum()) + int(sizes[1:][found].sum()))
    return total / (lesions + int((~hits.any(axis=0)).sum()))


def _enclosing_box(mask: np.ndarray[Any, np.dtype[np.bool_]], *, margin: int) -> tuple[slice, ...]:
    """Smallest box around a non-empty mask, with a margin where the array allows it."""
    places = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)
    ]
    return tuple(slice(max(0, int(at[0]) - margin), int(at[-1]) + 1 + margin) for at in places)


def average_precision(score: Tensor, mask: Tensor) -> float:
    """Area under the precision-recall curve, the sum of precision times step of recall, without any fixed threshold.

    Every distinct score is a threshold, and pixels of equal score enter together. A constant map therefore gets the
    share of positive pixels, which is the chance level.

    Args:
        score: float of any shape, higher is more positive; only the order matters.
        mask: bool of the same shape.

    Returns:
        In [0, 1]; NaN if the mask is empty.

    Example:
        >>> mask = torch.tensor([True, False, False, False])
        >>> average_precision(torch.tensor([0.6, 0.8, 0.1, 0.1]), mask)
        0.5
        >>> average_precision(torch.zeros(4), mask)
        0.25
    """
    positive = int(mask.sum())
    if positive == 0:
        return float("nan")
    values, truth = score.detach().float().cpu().numpy().ravel(), mask.cpu().numpy().ravel()
    # Recall only changes at the scores of lesion pixels. Sorting lesion and healthy pixels separately avoids an argsort
    # of all pixels, which would take most of the time.
    lesion, healthy = np.sort(values[truth]), np.sort(values[~truth])
    levels, first = np.unique(lesion, return_index=True)
    hits = positive - first
    false = healthy.size - np.searchsorted(healthy, levels, side="left")
    steps = np.diff(np.append(first, positive))
    return float((steps * hits / (hits + false)).sum() / positive)


def hausdorff95_slices(prediction: Tensor, mask: Tensor, *, spacing: Sequence[float] | None = None) -> float:
    """Mean over positive slices of the 95th percentile Hausdorff distance between 2D outlines.

    In 2D because a sample may hold only some slices of a volume, at unknown distances. A positive slice without any
    predicted pixel gets the diagonal of the slice, the longest possible distance, so that an empty prediction is never
    an advantage. Slices without a lesion have no distance; they count in the false positive scores.

    Args:
        prediction: [S, H, W] bool.
        mask: [S, H, W] bool.
        spacing: mm between rows and between columns, or None to measure in pixels.

    Returns:
        mm (pixels without a spacing); NaN if no slice is positive.

    Example:
        >>> prediction, mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
        >>> mask[0, 2, 2] = prediction[0, 2, 5] = True
        >>> hausdorff95_slices(prediction, mask, spacing=(1.0, 0.5))
        1.5
    """
    rows, columns = (1.0, 1.0) if spacing is None else (float(spacing[0]), float(spacing[1]))
    positive = mask.flatten(1).any(dim=1)
    if not bool(positive.any()):
        return float("nan")
    prediction, mask = prediction[positive].cpu(), mask[positive].cpu()
    height, width = mask.shape[-2:]
    distance = torch.full((len(mask),), ((height * rows) ** 2 + (width * columns) ** 2) ** 0.5)
    drawn = prediction.flatten(1).any(dim=1)
    if bool(drawn.any()):
        distance[drawn] = _hausdorff95(prediction[drawn], mask[drawn], [rows, columns]).to(distance.dtype)
    return float(distance.mean())


def hausdorff95_volume(prediction: Tensor, mask: Tensor, *, spacing: Sequence[float] | None = None) -> float:
    """95th percentile Hausdorff distance between two surfaces in 3D (Huttenlocher 1993), the larger direction.

    Args:
        prediction: [Z, Y, X] bool.
        mask: [Z, Y, X] bool.
        spacing: mm along Z, Y and X, or None to measure in voxels.

    Returns:
        mm (voxels without a spacing); NaN if the mask is empty; the diagonal of the volume if only the prediction is
        empty, so that an empty prediction is never an advantage.

    Example:
        >>> prediction, mask = torch.zeros(2, 8, 8, 8, dtype=torch.bool)
        >>> mask[1, 2, 2] = prediction[3, 2, 2] = True
        >>> hausdorff95_volume(prediction, mask, spacing=(3.0, 1.0, 1.0))
        6.0
    """
    if not bool(mask.any()):
        return math.nan
    steps = [1.0, 1.0, 1.0] if spacing is None else [float(step) for step in spacing]
    if not bool(prediction.any()):
        return math.sqrt(sum((size * step) ** 2 for size, step in zip(mask.shape, steps, strict=True)))
    return float(_hausdorff95(prediction[None], mask[None], steps))


def _hausdorff95(prediction: Tensor, mask: Tensor, spacing: list[float]) -> Tensor:
    """HD95 of each of N pairs of masks [N, *spatial], all of them non-empty, as [N]."""
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn about an argument that their own distance function passes.
        warnings.simplefilter("ignore", FutureWarning)
        distance: Tensor = compute_hausdorff_distance(
            prediction.unsqueeze(1), mask.unsqueeze(1), include_background=True, percentile=95, spacing=spacing
        )
    return distance.squeeze(1)


def cldice(prediction: Tensor, mask: Tensor) -> float:
    """Centreline Dice (Shit 2021, eq. 3): the harmonic mean of topology precision and sensitivity.

    Precision is the share of the prediction's skeleton inside the annotation, sensitivity the share of the
    annotation's skeleton inside the prediction (eq. 1 and 2), both on binary masks.

    Args:
        prediction: [Z, Y, X] bool.
        mask: [Z, Y, X] bool.

    Returns:
        In [0, 1]; NaN if the mask is empty.
    """
    if not bool(mask.any()):
        return math.nan
    if not bool(prediction.any()):
        return 0.0
    precision = _share_inside(skeleton(prediction), mask)
    sensitivity = _share_inside(skeleton(mask), prediction)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def skeleton(mask: Tensor) -> Tensor:
    """Skeleton of a mask by iterated morphological opening (Shit 2021, algorithm 1, as implemented in MONAI).

    The number of erosions follows from the thickest part of the mask. The skeleton may have gaps of one voxel and be
    wider than one voxel, which does not affect its share inside another mask.

    Args:
        mask: [Z, Y, X] bool.

    Returns:
        [Z, Y, X] bool, inside the mask.
    """
    result = torch.zeros_like(mask, dtype=torch.bool)
    if not bool(mask.any()):
        return result
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in mask.nonzero().unbind(dim=1))
    part = torch.nn.functional.pad(mask[box].float(), (2,) * 6)  # outside is background, also at the volume's border
    radius = float(distance_transform_edt(part.cpu().numpy() > 0).max())
    # Each erosion removes a voxel along every axis, which along a diagonal is only 1/√3 of the distance.
    inner = soft_skel(part[None, None], math.ceil(radius * math.sqrt(3)))[0, 0, 2:-2, 2:-2, 2:-2] > 0.5
    result[box] = inner
    return result


def _share_inside(part: Tensor, whole: Tensor) -> float:
    total = int(part.sum())
    return int((part & whole).sum()) / total if total else 0.0
