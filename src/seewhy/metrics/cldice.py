"""clDice: whether a tubular structure was found as a structure, and not only as voxels."""

from __future__ import annotations

import math

import torch
from monai.losses.cldice import soft_skel
from scipy.ndimage import distance_transform_edt
from torch import Tensor

__all__ = ["cldice", "skeleton"]


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
