"""Lesions under a translation: contrast, apparent volume and Dice, and a check of contrasts before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label
from scipy.stats import rankdata

from seewhy.metrics.gather import Row

__all__ = [
    "COLUMNS",
    "FAINT",
    "VISIBLE",
    "Lesion",
    "LesionAppearance",
    "Place",
    "check_lesion",
    "describe_problem",
    "find_bright_region",
    "locate_lesions",
    "measure_lesion",
]

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


Place: TypeAlias = Literal["mask", "brightest before", "brightest after"]
"""Where lesions were looked for: the annotation, or the brightest regions of the scan or of its translation."""
COLUMNS = (
    "subject", "patient", "direction", "place", "modality", "voxels", "contrast_before", "contrast_after",
    "contrast_truth", "brighter_before", "brighter_after", "sign_change", "problem",
)  # fmt: skip
VISIBLE = 0.25
"""Least contrast of a lesion whose sign counts; below it, noise and other tissue decide the sign."""
FAINT = 1.0
"""Contrast below which a change counts as if the contrast were this: small contrasts change much relative to them."""
BRIGHT = 98.0
"""Percentile of the smoothed tissue above which a region is bright."""
SMOOTHING = 1.0
"""Standard deviation of that smoothing in voxels."""
RIM = 2
"""Voxels next to the background in which no bright region is looked for: fluid and fat lie there."""
LEAST_REGION = 20
"""Fewest voxels of a bright region."""


def find_bright_region(values: NDArray[np.floating], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the largest connected region of the brightest 2 % of the tissue, without a mask.

    Args:
        values: [S, H, W], one modality; in FLAIR, most lesions are among the brightest tissue.
        body: [S, H, W], the tissue.

    Returns:
        [S, H, W] bool; empty without a region of at least 20 voxels.

    Example:
        >>> import numpy as np
        >>> scan = np.zeros((9, 20, 20))
        >>> scan[2:6, 8:13, 8:13] = 1
        >>> int(find_bright_region(scan, np.ones(scan.shape, bool))[3, 10, 10])
        1
    """
    outside = values[body].min() if body.any() else 0.0
    smooth = gaussian_filter(np.where(body, values, outside).astype(np.float32), SMOOTHING)
    inner = np.stack([binary_erosion(plane, iterations=RIM) for plane in body])
    if not inner.any():
        return np.zeros(body.shape, bool)
    bright, count = label(inner & (smooth > np.percentile(smooth[inner], BRIGHT)))
    if count == 0:
        return np.zeros(body.shape, bool)
    sizes = np.bincount(bright.ravel())[1:]
    region: NDArray[np.bool_] = (bright == sizes.argmax() + 1) & bool(sizes.max() >= LEAST_REGION)
    return region


def locate_lesions(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    body: NDArray[np.bool_],
    mask: NDArray[np.integer] | None,
    *,
    margin: int,
) -> dict[Place, Lesion]:
    """Locate what must stay as it is: the annotated lesion, or else the brightest region, and that of the translation.

    The brightest region of the translation shows lesions that were not there before.

    Args:
        before: [S, H, W], the modality in which bright regions are looked for, as scanned.
        after: the same, translated.
        body: [S, H, W], the tissue.
        mask: [S, H, W] class indices, 0 is background; None without an annotation.
        margin: see `Lesion.from_mask`.
    """
    places: dict[Place, NDArray[np.integer] | NDArray[np.bool_]] = {}
    if mask is not None and (mask > 0).any():
        places["mask"] = mask
    else:
        places["brightest before"] = find_bright_region(before, body)
    places["brightest after"] = find_bright_region(after, body)
    lesions = {
        place: Lesion.from_mask(region.astype(np.uint8), body, margin=margin) for place, region in places.items()
    }
    return {place: lesion for place, lesion in lesions.items() if lesion is not None}


def check_lesion(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    truth: NDArray[np.floating] | None,
    lesion: Lesion,
    *,
    tolerance: float,
) -> Row:
    """Compare a lesion in one modality before and after a translation.

    A sign change is one between contrasts of at least `VISIBLE`, unless the truth is known and has it, too. A contrast
    is wrong if it differs by more than `tolerance` times its size (at least `FAINT`) from that of the truth or, if
    that is not known, from that before.

    Args:
        before: [S, H, W], as scanned.
        after: the same, translated.
        truth: the same head on the other scanner; None if unknown.
        lesion: lesion on the same voxels.
        tolerance: largest relative change.

    Returns:
        `voxels`; `contrast_before`, `contrast_after`, `contrast_truth` (see `LesionAppearance`); `brighter_before`,
        `brighter_after`: shares of pairs of a voxel of the lesion and one around it in which the former is brighter,
        which no increasing map of intensities changes; `sign_change`; `problem`: text, empty without one.
    """
    contrasts = [None if scan is None else measure_lesion(scan, lesion).contrast for scan in (before, after, truth)]
    first, second, third = contrasts
    assert first is not None
    assert second is not None
    changed = first * second < 0 and min(abs(first), abs(second)) >= VISIBLE
    changed = changed and not (third is not None and third * second > 0)
    return {
        "voxels": int(lesion.inside.sum()),
        "contrast_before": first,
        "contrast_after": second,
        "contrast_truth": third,
        "brighter_before": _share_brighter(before, lesion),
        "brighter_after": _share_brighter(after, lesion),
        "sign_change": changed,
        "problem": describe_problem(first, second, third, sign_change=changed, tolerance=tolerance),
    }


def describe_problem(before: float, after: float, truth: float | None, *, sign_change: bool, tolerance: float) -> str:
    """Describe what is wrong with a lesion's contrast; an empty text if nothing is.

    Example:
        >>> describe_problem(2.0, -1.0, None, sign_change=True, tolerance=0.5)
        'the lesion changed its sign: contrast 2.00 before, -1.00 after'
        >>> describe_problem(2.0, 0.5, 0.6, sign_change=False, tolerance=0.5)
        ''
    """
    if sign_change:
        known = "" if truth is None else f", {truth:.2f} in truth"
        return f"the lesion changed its sign: contrast {before:.2f} before, {after:.2f} after{known}"
    expected = before if truth is None else truth
    if abs(after - expected) <= tolerance * max(abs(expected), FAINT):
        return ""
    source = "before" if truth is None else "in truth"
    return f"the lesion's contrast is {after:.2f} after and {expected:.2f} {source}, more than {tolerance:.0%} apart"


def _share_brighter(scan: NDArray[np.floating], lesion: Lesion) -> float:
    """Mann-Whitney statistic over its largest value; ties count half."""
    inner, outer = scan[lesion.inside], scan[lesion.around]
    ranks = rankdata(np.concatenate([inner, outer]))[: len(inner)]
    return float((ranks.sum() - len(inner) * (len(inner) + 1) / 2) / (len(inner) * len(outer)))
