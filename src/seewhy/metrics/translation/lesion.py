"""Preservation of lesions by a translation: contrast to the surroundings, apparent volume and Dice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

__all__ = ["Lesion", "LesionAppearance", "measure_lesion"]

LEAST = 10
"""Fewest voxels of a lesion and of its surroundings to be measured."""


@dataclass(frozen=True)
class LesionAppearance:
    """Appearance of a lesion in one modality of one scan.

    Attributes:
        contrast: (mean of the lesion - mean of its surroundings) / standard deviation of the rest of the tissue.
        volume: voxels of the lesion and its surroundings on the lesion's side of the midpoint between the two means.
        dice: Dice of these voxels with the annotated lesion.
    """

    contrast: float
    volume: int
    dice: float


@dataclass(frozen=True)
class Lesion:
    """An annotated lesion and its surroundings, the same for every scan of the subject.

    Attributes:
        inside: [S, H, W] bool, annotated voxels within the tissue.
        around: [S, H, W] bool, tissue at most `margin` voxels away from them.
        rest: [S, H, W] bool, all tissue except the lesion.
    """

    inside: NDArray[np.bool_]
    around: NDArray[np.bool_]
    rest: NDArray[np.bool_]

    @classmethod
    def from_mask(cls, mask: NDArray[np.integer], body: NDArray[np.bool_], *, margin: int) -> Lesion | None:
        """Lesion of an annotation; None if the lesion or its surroundings have too few voxels.

        Args:
            mask: [S, H, W] class indices, 0 is background; all classes together are the lesion.
            body: [S, H, W] tissue.
            margin: width of the surroundings in steps between face neighbours.
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


def measure_lesion(image: NDArray[np.floating], lesion: Lesion) -> LesionAppearance:
    """Measure a lesion in one modality of one scan.

    The rule for the apparent volume is fixed and uses the annotation only as the position, so that a lesion that faded,
    spread or vanished can be seen. It is not a segmentation.

    Args:
        image: [S, H, W].
        lesion: lesion on the same voxels.
    """
    values = np.asarray(image, np.float64)
    inner, outer = values[lesion.inside], values[lesion.around]
    difference = inner.mean() - outer.mean()
    spread = values[lesion.rest].std()
    middle, side = (inner.mean() + outer.mean()) / 2, math.copysign(1.0, difference)
    hits, alarms = int((side * (inner - middle) > 0).sum()), int((side * (outer - middle) > 0).sum())
    return LesionAppearance(
        contrast=float(difference / spread) if spread > 0 else math.nan,
        volume=hits + alarms,
        dice=2 * hits / (len(inner) + hits + alarms),
    )
