"""Whether a lesion survives a translation: how it stands out from what surrounds it, and how large it looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

__all__ = ["Lesion", "LesionLook", "look_at_lesion"]

LEAST = 10
"""Fewest voxels of lesion and of surroundings that give a number."""


@dataclass(frozen=True)
class LesionLook:
    """How a lesion looks in one modality of one scan.

    Attributes:
        contrast: (mean of the lesion - mean of its surroundings) / standard deviation of the rest of the tissue.
        volume: voxels of the lesion and its surroundings that lie on the lesion's side of the midpoint between both
            means.
        dice: of that region with the annotated lesion.
    """

    contrast: float
    volume: int
    dice: float


@dataclass(frozen=True)
class Lesion:
    """An annotated lesion and its surroundings, the same for every scan of the subject.

    Attributes:
        inside: [S, H, W] bool, the annotated voxels within the tissue.
        around: [S, H, W] bool, tissue not more than `margin` voxels away from them.
        rest: [S, H, W] bool, all tissue but the lesion.
    """

    inside: NDArray[np.bool_]
    around: NDArray[np.bool_]
    rest: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.integer], body: NDArray[np.bool_], *, margin: int) -> Lesion | None:
        """Find a lesion in an annotation; None where there is too little of it or around it.

        Args:
            mask: [S, H, W] class indices, 0 is none; all classes together are the lesion.
            body: [S, H, W] tissue.
            margin: steps between face-to-face neighbours that the surroundings reach.
        """
        inside = (mask > 0) & body
        if inside.sum() < LEAST:
            return None
        box = tuple(
            slice(max(int(places.min()) - margin, 0), int(places.max()) + margin + 1) for places in inside.nonzero()
        )
        around = np.zeros_like(inside)
        around[box] = binary_dilation(inside[box], iterations=margin)
        around &= body & ~inside
        return cls(inside, around, body & ~inside) if around.sum() >= LEAST else None


def look_at_lesion(image: NDArray[np.floating], lesion: Lesion) -> LesionLook:
    """Measure a lesion in one modality of one scan.

    The rule for its size is fixed and knows the annotation only as the place to look at: scans of one subject are
    measured by the same rule, so that a lesion that faded, spread or vanished is seen as such. It is no segmentation.

    Args:
        image: [S, H, W].
        lesion: of the same voxels.
    """
    values = np.asarray(image, np.float64)
    inner, outer = values[lesion.inside], values[lesion.around]
    difference = inner.mean() - outer.mean()
    spread = values[lesion.rest].std()
    middle, side = (inner.mean() + outer.mean()) / 2, math.copysign(1.0, difference)
    hits, alarms = int((side * (inner - middle) > 0).sum()), int((side * (outer - middle) > 0).sum())
    return LesionLook(
        contrast=float(difference / spread) if spread > 0 else math.nan,
        volume=hits + alarms,
        dice=2 * hits / (len(inner) + hits + alarms),
    )
