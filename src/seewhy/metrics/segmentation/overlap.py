"""How well a map or a mask agrees with the annotated one: Dice, IoU, average precision, HD95.

clDice: whether a tubular structure was found as a structure, and not only as voxels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.losses.cldice import soft_skel
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import distance_transform_edt
from torch import Tensor

__all__ = ["average_precision", "cldice", "dice", "hausdorff95", "iou", "skeleton"]


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


def cldice(prediction: Tensor, mask: Tensor) -> float:
    """Centreline Dice (Shit 2021, equation 3): the harmonic mean of topology precision and sensitivity.

    Precision is the share of the prediction's skeleton inside the annotation, sensitivity the share of the
    annotation's skeleton inside the prediction (equations 1 and 2), both on masks.

    Args:
        prediction: [Z, Y, X] bool.
        mask: [Z, Y, X] bool.

    Returns:
        In [0, 1]; NaN where the mask is empty.
    """
    if not bool(mask.any()):
        return math.nan
    if not bool(prediction.any()):
        return 0.0
    precision = _share(skeleton(prediction), mask)
    sensitivity = _share(skeleton(mask), prediction)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def skeleton(mask: Tensor) -> Tensor:
    """Skeleton by iterated morphological openings, the algorithm 1 of Shit 2021 as MONAI has it, on a mask.

    It erodes as often as the thickest part needs, so that nothing is left out. The result may have gaps of a
    voxel and more than one voxel of width, which shares of it inside another mask do not mind.

    Args:
        mask: [Z, Y, X] bool.

    Returns:
        [Z, Y, X] bool, inside the mask.
    """
    found = torch.zeros_like(mask, dtype=torch.bool)
    if not bool(mask.any()):
        return found
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in mask.nonzero().unbind(dim=1))
    part = torch.nn.functional.pad(mask[box].float(), (2,) * 6)  # outside is background, also at the volume's border
    radius = float(distance_transform_edt(part.cpu().numpy() > 0).max())
    # Each erosion takes a voxel along every axis, which along a diagonal is as little as 1/√3 of the distance.
    inner = soft_skel(part[None, None], math.ceil(radius * math.sqrt(3)))[0, 0, 2:-2, 2:-2, 2:-2] > 0.5
    found[box] = inner
    return found


def _share(part: Tensor, whole: Tensor) -> float:
    total = int(part.sum())
    return int((part & whole).sum()) / total if total else 0.0
