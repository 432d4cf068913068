"""Plausibility of maps without annotations: signs that a map follows something other than a lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from seewhy.errors import DataError

__all__ = ["Plausibility", "measure_plausibility"]

PEAK_PIXELS = 100
MIN_POSITIVE = 5
LOW_PEAK = 0.7
WIDE_COVER = 0.25
HIGH_OVERLAP = 0.8
MAX_CORRELATION = 0.9
MIN_SLICES = 8
MIN_SYMMETRY = 0.9  # axial head slices have .94 to .97 left to right, and .81 to .84 front to back


@dataclass(frozen=True)
class Plausibility:
    """Four numbers about a patient: of a map on the slices predicted as positive, and of the classifier on all slices.

    Attributes:
        peak: mean of the 100 highest values, in [0, 1]; low if no place supports the class.
        cover: share of the body above half of the peak, in [0, 1]; large if the map follows ordinary tissue.
        overlap: share of the map that overlaps with its mirror image, in [0, 1]; high for anatomy on both sides.
            NaN if the outline of the body is not symmetric or the map is empty.
        area_correlation: rank correlation (Spearman) of the slices' probability with their area of tissue, in
            [-1, 1]; high if the classifier may only see how large a slice is. None with fewer than 8 slices, or if
            either is the same in all.
    """

    peak: float
    cover: float
    overlap: float
    area_correlation: float | None = None

    def doubts(self) -> list[str]:
        """One sentence per value outside the range that maps on a lesion showed; empty without any.

        The limits are round numbers, chosen on trainings with three patients. A doubt is a reason to look at the
        panels, not a proof, and the absence of doubts proves nothing. Lesions on both sides, or over a quarter of the
        body, raise doubts too.
        """
        doubts = []
        if self.peak < LOW_PEAK:
            doubts.append(f"the map peaks at {self.peak:.2f} (below {LOW_PEAK}): no place supports the class")
        if self.cover > WIDE_COVER:
            doubts.append(f"the map covers {self.cover:.0%} of the body (above {WIDE_COVER:.0%}): ordinary tissue")
        if self.overlap > HIGH_OVERLAP:  # False for NaN
            doubts.append(f"{self.overlap:.0%} of the map is on its mirror image (above {HIGH_OVERLAP:.0%}): anatomy")
        if self.area_correlation is not None and self.area_correlation > MAX_CORRELATION:
            doubts.append(
                f"slice probabilities follow the area of tissue (rank correlation {self.area_correlation:.2f}, above "
                f"{MAX_CORRELATION}): the classifier may only see how large a slice is"
            )
        return doubts


def measure_plausibility(values: Tensor, body: Tensor, probability: Tensor, *, threshold: float = 0.5) -> Plausibility:
    """Measure the map of one class of one patient; no mask is used.

    Only slices with a probability above `threshold` count, or the five most probable ones if there are fewer. Several
    trainings can agree on a wrong map, so agreement between trainings is not among the signs.

    Args:
        values: [S, H, W] in [0, 1], the map that defines the lesion, e.g. one class of `cam`.
        body: [S, H, W] bool, tissue; its outline gives the mirror plane, across rows or columns.
        probability: [S] in [0, 1], probability of the class per slice.
        threshold: probability above which a slice is positive.

    Raises:
        DataError: the shapes differ, or the positive slices contain no body.
    """
    if values.ndim != 3 or body.shape != values.shape or probability.shape != values.shape[:1]:
        raise DataError(
            f"map {tuple(values.shape)}, body {tuple(body.shape)} and probability {tuple(probability.shape)}; "
            "expected [S, H, W] twice and [S]"
        )
    values, body = values.detach().float(), body.to(values.device).bool()
    chosen = _positive_slices(probability.detach().to(values.device).float(), threshold)
    inside = values[chosen][body[chosen]]
    if not inside.numel():
        raise DataError("`body` has no pixel on the positive slices; expected tissue there")
    peak = inside.topk(min(PEAK_PIXELS, inside.numel())).values.mean()
    cover = (inside > peak / 2).float().mean()
    return Plausibility(
        float(peak), float(cover), _mirror_overlap(values, body, chosen), correlate_area(probability, body)
    )


def correlate_area(probability: Tensor, body: Tensor) -> float | None:
    """Spearman's rank correlation of the probability [S] of slices with their area of tissue [S, H, W]."""
    area = body.flatten(1).sum(dim=1).cpu().numpy()
    shares = probability.detach().double().cpu().numpy()
    if len(area) < MIN_SLICES or np.ptp(area) == 0 or np.ptp(shares) == 0:
        return None
    return float(spearmanr(area, shares).statistic)


def _positive_slices(probability: Tensor, threshold: float) -> Tensor:
    chosen = probability > threshold
    if int(chosen.sum()) < MIN_POSITIVE:
        chosen = torch.zeros_like(chosen)
        chosen[probability.topk(min(MIN_POSITIVE, len(probability))).indices] = True
    return chosen


def _mirror_overlap(values: Tensor, body: Tensor, chosen: Tensor) -> float:
    """Sum of min(map, mirrored map) over the sum of the map, both within the body."""
    symmetry, dim, twice_middle = max(_symmetry(body, dim) for dim in (1, 2))
    inside = torch.where(body, values, 0)
    total = inside[chosen].sum()
    if symmetry < MIN_SYMMETRY or total <= 0:
        return float("nan")
    return float(torch.minimum(inside, _mirror(inside, dim, twice_middle))[chosen].sum() / total)


def _symmetry(body: Tensor, dim: int) -> tuple[float, int, int]:
    """Share of the body that its mirror image about the middle of its extent along `dim` covers."""
    # The outline, not the intensities: a large lesion makes a brain look more alike front to back than left to right.
    occupied = body.any(dim=0).any(dim=2 - dim).nonzero()[:, 0]
    twice_middle = int(occupied[0] + occupied[-1])
    return float((body & _mirror(body, dim, twice_middle)).sum() / body.sum()), dim, twice_middle


def _mirror(x: Tensor, dim: int, twice_middle: int) -> Tensor:
    """Pixel i of the result is pixel `twice_middle` - i of `x` (round the edge, where no body is)."""
    return x.flip(dim).roll(twice_middle - (x.shape[dim] - 1), dim)
