"""Signs, told without any annotation, that a map follows something else than a lesion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seewhy.errors import DataError

__all__ = ["Plausibility", "plausibility"]

PEAK_PIXELS = 100
MIN_POSITIVE = 5
LOW_PEAK = 0.7
WIDE_COVER = 0.25
HIGH_OVERLAP = 0.8
MIN_SYMMETRY = 0.9  # of a head seen from above: .94 to .97 left to right, .81 to .84 front to back


@dataclass(frozen=True)
class Plausibility:
    """Three numbers about a map within the body of the slices that the classifier calls positive.

    Attributes:
        peak: mean of the 100 highest values, in [0, 1]; low where the classifier decides without a place.
        cover: share of the body above half of the peak, in [0, 1]; large where the map follows ordinary tissue.
        overlap: share of the map that lies on its own mirror image, in [0, 1]; high for anatomy that both sides
            have. NaN where the outline of the body is not symmetric, or the map is empty.
    """

    peak: float
    cover: float
    overlap: float

    def doubts(self) -> list[str]:
        """One sentence per sign that is outside what maps on a lesion showed; empty where there is none.

        The limits are round numbers chosen on trainings with three patients: a doubt is a reason to look at
        the panels, not proof, and no doubt proves nothing. Lesions on both sides or over a quarter of the body
        raise one, too.
        """
        found = []
        if self.peak < LOW_PEAK:
            found.append(f"the map peaks at {self.peak:.2f} (below {LOW_PEAK}): no place speaks for the class")
        if self.cover > WIDE_COVER:
            found.append(f"the map covers {self.cover:.0%} of the body (above {WIDE_COVER:.0%}): ordinary tissue")
        if self.overlap > HIGH_OVERLAP:  # false for NaN
            found.append(f"{self.overlap:.0%} of the map is on its mirror image (above {HIGH_OVERLAP:.0%}): anatomy")
        return found


def plausibility(values: Tensor, body: Tensor, probability: Tensor, *, threshold: float = 0.5) -> Plausibility:
    """Describe one class's map of one patient; no mask is needed, and none is read.

    Only slices with a probability above `threshold` count, or the five most probable where fewer are. A map that
    several trainings agree on can still be wrong, so agreement between trainings is not among the signs.

    Args:
        values: [S, H, W] in [0, 1], the map that chooses the lesion, e.g. one class of `cam`.
        body: [S, H, W] bool, tissue; its outline tells the mirror plane, across rows or columns.
        probability: [S] in [0, 1] of the class per slice.
        threshold: probability above which a slice is called positive.

    Raises:
        DataError: the shapes differ, or the chosen slices hold no body.
    """
    if values.ndim != 3 or body.shape != values.shape or probability.shape != values.shape[:1]:
        raise DataError(
            f"the map is {tuple(values.shape)}, body {tuple(body.shape)} and probability {tuple(probability.shape)}; "
            "expected [S, H, W] twice and [S]"
        )
    values, body = values.detach().float(), body.to(values.device).bool()
    chosen = _positive(probability.detach().to(values.device).float(), threshold)
    inside = values[chosen][body[chosen]]
    if not inside.numel():
        raise DataError("no pixel of the body on the slices called positive; expected tissue: check `body`")
    peak = inside.topk(min(PEAK_PIXELS, inside.numel())).values.mean()
    cover = (inside > peak / 2).float().mean()
    return Plausibility(float(peak), float(cover), _overlap(values, body, chosen))


def _positive(probability: Tensor, threshold: float) -> Tensor:
    chosen = probability > threshold
    if int(chosen.sum()) < MIN_POSITIVE:
        chosen = torch.zeros_like(chosen)
        chosen[probability.topk(min(MIN_POSITIVE, len(probability))).indices] = True
    return chosen


def _overlap(values: Tensor, body: Tensor, chosen: Tensor) -> float:
    """Sum of min(map, mirrored map) over the sum of the map, both within the body."""
    symmetry, dim, twice_middle = max(_symmetry(body, dim) for dim in (1, 2))
    held = torch.where(body, values, 0)
    total = held[chosen].sum()
    if symmetry < MIN_SYMMETRY or total <= 0:
        return float("nan")
    return float(torch.minimum(held, _mirror(held, dim, twice_middle))[chosen].sum() / total)


def _symmetry(body: Tensor, dim: int) -> tuple[float, int, int]:
    """Share of the body that its mirror image about the middle of its extent along `dim` covers."""
    # The outline, not the intensities: a large lesion makes a brain look more alike front to back than left to right.
    occupied = body.any(dim=0).any(dim=2 - dim).nonzero()[:, 0]
    twice_middle = int(occupied[0] + occupied[-1])
    return float((body & _mirror(body, dim, twice_middle)).sum() / body.sum()), dim, twice_middle


def _mirror(x: Tensor, dim: int, twice_middle: int) -> Tensor:
    """Pixel i of the result is pixel `twice_middle` - i of `x` (round the edge, where no body is)."""
    return x.flip(dim).roll(twice_middle - (x.shape[dim] - 1), dim)
