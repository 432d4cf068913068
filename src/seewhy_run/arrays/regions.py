"""Lesion regions of a patient from a classifier's evidence and the image intensities, on arrays; needs scipy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seewhy_run.arrays.activations import sigmoid

__all__ = [
    "choose_level",
    "edge_strength",
    "find_regions",
    "intensity_log_ratio",
    "logit",
    "neighbour_smoothing",
    "smooth",
    "summit",
    "supported_components",
]

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]

BINS = 64
"""Bins of the intensity histograms."""
FINE = 2048
"""Equal-width bins that are merged to `BINS`."""
BOUND = 4.0
"""Bound on the log ratio of intensities, so that a distractor as bright as the lesion needs evidence, too."""
CLIP = 0.01
"""Evidence is clipped to this distance from 0 and 1 before its logit, for the same reason."""
SWEEPS = 10
"""Mean-field sweeps, enough for convergence."""
LEVELS = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Levels that are tried where edges are clear."""
CLEAR = 2.5
"""Smallest edge strength that is clear; noise reaches 1.1."""


def find_regions(
    image: Volume,
    evidence: Volume,
    body: Mask,
    *,
    level: float | None = None,
    floor: float = 0.1,
    iterations: int = 1,
    coupling: float = 0.5,
    evidence_sigma: Sequence[float] = (2.0, 4.0, 4.0),
    image_sigma: float = 0.5,
    fill_holes: bool = True,
    unclear_level: float = 0.5,
) -> Volume:
    """Combine a classifier's evidence with the intensities of a patient, see `seewhy.nets.refinement.refine_regions`.

    Args:
        image: [S, H, W] intensities of one patient in slice order, on one scale.
        evidence: [S, H, W] in [0, 1].
        body: [S, H, W] bool, tissue.
        level: share of the peak above which smoothed evidence is a seed; None: the one of `LEVELS` whose regions have
            the strongest edges if these are clear, else `unclear_level`.
        floor: smallest peak of a lesion.
        iterations: rounds of histograms and smoothing.
        coupling: log odds that each neighbour adds.
        evidence_sigma: Gaussian smoothing of the evidence, in slices and pixels.
        image_sigma: Gaussian smoothing of the intensities within slices, in pixels.
        fill_holes: fill holes of the regions within slices.
        unclear_level: level of a patient whose regions have no clear edges.

    Returns:
        [S, H, W] float32 in [0, 1]; the regions are the voxels above 0.5.
    """
    result = np.zeros(evidence.shape, np.float32)
    case = _EvidenceInBody.read(image, evidence, body, floor, evidence_sigma, image_sigma)
    if case is not None:
        refine = partial(case.refine, iterations=iterations, coupling=coupling, fill_holes=fill_holes)
        found = case.find_sharpest(refine)[1] if level is None else None
        result[case.box] = refine(unclear_level if level is None else level) if found is None else found
    return result


def choose_level(
    image: Volume,
    evidence: Volume,
    body: Mask,
    *,
    floor: float = 0.1,
    iterations: int = 1,
    coupling: float = 0.5,
    evidence_sigma: Sequence[float] = (2.0, 4.0, 4.0),
    image_sigma: float = 0.5,
    fill_holes: bool = True,
) -> float | None:
    """Return the level of `LEVELS` whose regions have the strongest edges; None if none are clear or it has no lesion.

    Args: those of `find_regions`.
    """
    case = _EvidenceInBody.read(image, evidence, body, floor, evidence_sigma, image_sigma)
    if case is None:
        return None
    return case.find_sharpest(partial(case.refine, iterations=iterations, coupling=coupling, fill_holes=fill_holes))[0]


@dataclass(frozen=True)
class _EvidenceInBody:
    """Smoothed evidence and intensities of a patient, cut to the body.

    Attributes:
        box: slices of the body.
        inside: the body in the box.
        seen: smoothed evidence.
        peak: its highest values, as `summit` measures them.
        values: smoothed intensities.
    """

    box: tuple[slice, ...]
    inside: Mask
    seen: Volume
    peak: float
    values: Volume

    @classmethod
    def read(
        cls, image: Volume, evidence: Volume, body: Mask, floor: float, evidence_sigma: Sequence[float],
        image_sigma: float,
    ) -> _EvidenceInBody | None:  # fmt: skip
        """Cut and smooth; None without a body, or with a peak below the floor."""
        if not body.any():
            return None
        box = ndimage.find_objects(body.astype(np.uint8))[0]
        inside = body[box]
        seen = smooth(evidence[box], inside, evidence_sigma)
        peak = summit(seen[inside])
        if peak < max(floor, 2 * CLIP):
            return None
        return cls(box, inside, seen, peak, smooth(image[box], inside, (0.0, image_sigma, image_sigma)))

    def refine(self, level: float, *, iterations: int, coupling: float, fill_holes: bool) -> Volume:
        """Regions whose seeds have evidence above a share of the peak."""
        given = self.values, self.seen, self.inside, level * self.peak
        return _refine(*given, iterations=iterations, coupling=coupling, fill_holes=fill_holes)

    def find_sharpest(self, refine: Callable[[float], Volume]) -> tuple[float, Volume] | tuple[None, None]:
        """The level of `LEVELS` with the strongest edges and its regions; None if no edges are clear."""
        best: tuple[float, Volume] | tuple[None, None] = (None, None)
        strongest = CLEAR
        for level in LEVELS:
            regions = refine(level)
            if (strength := edge_strength(self.values, regions > 0.5, self.inside)) > strongest:
                best, strongest = (level, regions), strength
        return best


def edge_strength(values: Volume, regions: Mask, inside: Mask) -> float:
    """Mean step of intensity across the outline of regions, relative to the mean step between all neighbours.

    Neighbours are those within slices, in the body. An outline at a wrong level runs through homogeneous tissue, where
    neighbours differ little. 1 for an outline that ignores the image; 0 without outline or in a constant image.
    """
    steps, crosses = [], []
    for axis in (1, 2):
        before, after = _slices(axis, slice(None, -1)), _slices(axis, slice(1, None))
        pairs = inside[before] & inside[after]
        steps.append(np.abs(values[after][pairs] - values[before][pairs]))
        crosses.append((regions[before] != regions[after])[pairs])
    step, crossed = np.concatenate(steps), np.concatenate(crosses)
    mean = step.mean(dtype=np.float64) if len(step) else 0.0
    return float(step[crossed].mean(dtype=np.float64) / mean) if mean > 0 and crossed.any() else 0.0


def _refine(
    values: Volume, seen: Volume, inside: Mask, tau: float, *, iterations: int, coupling: float, fill_holes: bool
) -> Volume:
    """Regions whose seeds have evidence above τ."""
    prior = logit(seen) - logit(np.float32(tau))
    chosen: Mask = (seen > tau) & inside
    posterior = sigmoid(prior)  # where there is nothing to compare, the evidence alone
    for _ in range(iterations):
        if not chosen.any() or chosen.sum() == inside.sum():
            break
        score = intensity_log_ratio(values, chosen, inside) + prior
        posterior = neighbour_smoothing(score, inside, coupling=coupling)
        chosen = supported_components(posterior > 0.5, seen, tau)
    if fill_holes:
        chosen = np.stack([ndimage.binary_fill_holes(plane) for plane in chosen]) & inside
    # Above 0.5 for selected voxels and below for others, in the order of the posterior.
    return np.where(chosen, np.maximum(posterior, 0.51), 0.5 * posterior * inside).astype(np.float32)


def smooth(values: Volume, inside: Mask, sigma: Sequence[float]) -> Volume:
    """Smooth [S, H, W] by a Gaussian without voxels outside the body (normalised convolution)."""
    if not any(sigma):
        return np.where(inside, values, 0).astype(np.float32)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma, truncate=3.0)
    return np.where(inside, total / np.maximum(weight, 1e-6), 0).astype(np.float32)


def summit(values: Volume, *, share: int = 5000) -> float:
    """Compute the mean of the highest 1/share of the values, at least 10: a maximum robust to single voxels."""
    count = min(len(values), max(10, len(values) // share))
    return float(np.partition(values, -count)[-count:].mean())


def logit(probability: Volume | np.float32) -> Volume:
    """Compute log odds of probabilities clipped to [`CLIP`, 1 - `CLIP`]."""
    p = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(np.log(p / (1 - p)), np.float32)


def intensity_log_ratio(values: Volume, chosen: Mask, inside: Mask) -> Volume:
    """Compute the log ratio [S, H, W] of the intensity histograms of the chosen voxels and the rest of the body.

    The bins have equal mass of the even mixture of both, so that a small lesion has as many bins as the rest.
    """
    low, high = np.quantile(values[inside], [0.0005, 0.9995])
    if not high > low:
        return np.zeros_like(values)
    fine = np.clip((values - low) * (FINE / (high - low)), 0, FINE - 1).astype(np.int32)
    pair = np.stack([np.bincount(fine[which], minlength=FINE) for which in (chosen, inside & ~chosen)]).astype(float)
    pair /= pair.sum(axis=1, keepdims=True)
    mixture = pair.mean(axis=0)
    # A fine bin is assigned by the middle of its mass, so that reversed intensities give reversed bins.
    target = np.clip(((np.cumsum(mixture) - mixture / 2) * BINS).astype(np.int64), 0, BINS - 1)
    coarse = np.stack([np.bincount(target, masses, minlength=BINS) for masses in pair])
    coarse = ndimage.gaussian_filter1d(coarse, 2.0, axis=1, mode="nearest") + 0.02 / BINS
    ratio = np.clip(np.log(coarse[0] / coarse[1]), -BOUND, BOUND)
    return np.asarray(ratio[target][fine], np.float32)


def neighbour_smoothing(score: Volume, inside: Mask, *, coupling: float) -> Volume:
    """Compute mean-field probabilities [S, H, W] of a Potts field with log odds `score`; 0 outside the body."""
    if coupling == 0:
        return sigmoid(score) * inside
    field = sigmoid(score)
    for _ in range(SWEEPS):
        signed = np.where(inside, 2 * field - 1, np.float32(-1))
        total = score.copy()
        for axis, weight in enumerate((0.5 * coupling, coupling, coupling)):
            before, after = _slices(axis, slice(None, -1)), _slices(axis, slice(1, None))
            total[before] += np.float32(weight) * signed[after]
            total[after] += np.float32(weight) * signed[before]
        field = sigmoid(total)
    return field * inside


def supported_components(regions: Mask, seen: Volume, tau: float) -> Mask:
    """Keep 3D components (6 neighbours) with a mean evidence of at least τ, and the one with most evidence above τ.

    The latter is the lesion itself even where its intensities reach beyond the evidence, so that its mean is below τ.
    """
    labels, count = ndimage.label(regions)
    if count == 0:
        return regions
    numbers = np.arange(1, count + 1)
    kept = np.concatenate([[False], ndimage.mean(seen, labels, numbers) >= tau])
    kept[1 + int(np.argmax(ndimage.sum(np.maximum(seen - tau, 0), labels, numbers)))] = True
    return np.asarray(kept[labels], np.bool_)


def _slices(axis: int, part: slice) -> tuple[slice, ...]:
    whole = [slice(None)] * 3
    whole[axis] = part
    return tuple(whole)
