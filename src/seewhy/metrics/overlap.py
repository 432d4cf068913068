"""How well a map or a mask agrees with the annotated one: Dice, IoU, average precision, HD95."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from torch import Tensor

__all__ = ["average_precision", "dice", "hausdorff95", "iou"]


def dice(prediction: Tensor, mask: Tensor) -> float:
    """Dice coefficient 2|P∩M| / (|P|+|M|) over all pixels given (Dice 1945).

    Args:
        prediction: bool of any shape.
        mask: bool of the same shape.

    Returns:
        In [0, 1]; NaN where the mask is empty: with nothing to find there is no overlap to measure, and
        what is predicted there is counted as false positive area instead.
    """
    positive = int(mask.sum())
    if positive == 0:
        return float("nan")
    return 2.0 * int((prediction & mask).sum()) / (int(prediction.sum()) + positive)


def iou(prediction: Tensor, mask: Tensor) -> float:
    """Intersection over union |P∩M| / |P∪M| (Jaccard 1912); arguments and NaN as in `dice`."""
    if not bool(mask.any()):
        return float("nan")
    return int((prediction & mask).sum()) / int((prediction | mask).sum())


def average_precision(score: Tensor, mask: Tensor) -> float:
    """Area under the precision-recall curve as a sum of precision x step of recall, with no threshold chosen.

    Exact: every distinct score is a threshold, and pixels of equal score enter together, so that a constant
    map gets the share of positive pixels, which is the chance level.

    Args:
        score: float of any shape, higher is more positive; the scale does not matter.
        mask: bool of the same shape.

    Returns:
        In [0, 1]; NaN where the mask is empty.
    """
    positive = int(mask.sum())
    if positive == 0:
        return float("nan")
    values, truth = score.detach().float().cpu().numpy().ravel(), mask.cpu().numpy().ravel()
    # Recall only moves at the scores of lesion pixels. Sorting the two kinds apart needs no order of all pixels
    # (an argsort), which takes most of the time otherwise.
    lesion, healthy = np.sort(values[truth]), np.sort(values[~truth])
    levels, first = np.unique(lesion, return_index=True)
    found = positive - first
    false = healthy.size - np.searchsorted(healthy, levels, side="left")
    steps = np.diff(np.append(first, positive))
    return float((steps * found / (found + false)).sum() / positive)


def hausdorff95(prediction: Tensor, mask: Tensor, *, spacing: Sequence[float] | None = None) -> float:
    """Mean over positive slices of the 95th percentile Hausdorff distance between 2D boundaries.

    Two-dimensional because slices may be a part of the volume only and their distance unknown. A slice on
    which nothing is predicted gets the longest distance an image can hold, its diagonal, so that a method
    cannot win by staying silent; slices without a lesion have no distance (they count in the false positive
    scores).

    Args:
        prediction: [S, H, W] bool.
        mask: [S, H, W] bool.
        spacing: mm between rows and between columns, or None to measure in pixels.

    Returns:
        mm (or pixels without a spacing); NaN where no slice is positive.
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
        distance[drawn] = _distances(prediction[drawn], mask[drawn], [rows, columns]).to(distance.dtype)
    return float(distance.mean())


def _distances(prediction: Tensor, mask: Tensor, spacing: list[float]) -> Tensor:
    """HD95 of each slice, [S]."""
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn of an argument that their own distance function passes.
        warnings.simplefilter("ignore", FutureWarning)
        distance: Tensor = compute_hausdorff_distance(
            prediction.unsqueeze(1), mask.unsqueeze(1), include_background=True, percentile=95, spacing=spacing
        )
    return distance.squeeze(1)
