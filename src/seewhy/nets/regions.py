"""Regions of a patient that a classifier's evidence and the intensities agree on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

__all__ = ["refine_regions"]

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]

BINS = 64
"""Bins of the intensity histograms."""
FINE = 2048
"""Even bins from which the `BINS` are gathered."""
BOUND = 4.0
"""Bound on the log ratio of intensities, so that a distractor as bright as the lesion needs evidence too."""
CLIP = 0.01
"""Evidence is kept this far from 0 and 1 before its logit, for the same reason."""
SWEEPS = 10
"""Mean-field sweeps; the field is still by then."""


@torch.no_grad()
def refine_regions(
    image: Tensor,
    evidence: Tensor,
    body: Tensor,
    *,
    level: float = 0.5,
    floor: float = 0.1,
    iterations: int = 1,
    coupling: float = 0.5,
    evidence_sigma: Sequence[float] = (2.0, 4.0, 4.0),
    image_sigma: float = 0.5,
) -> Tensor:
    """Weigh, over a whole patient, where a classifier saw a lesion against what its intensities look like.

    Evidence is coarse in space but knows which tissue is meant; intensities are sharp but are shared with healthy
    tissue. Voxels whose smoothed evidence e exceeds a share τ of the patient's peak are seeds. Two histograms of
    intensity, of seeds and of the rest of the body, give a log ratio, and each voxel's score is

        u = log(h_seed(I) / h_rest(I)) + logit(e) - logit(τ).

    Each histogram is normalised to mass 1: wrong seeds, which mix the two classes, then shrink the ratio but do not
    move its zero (Menon et al. 2015, corrupted labels and the balanced error), so coarse seeds suffice. Its sign is
    learned, so dark lesions work; where intensities tell nothing it is 0, and the evidence alone decides. A Potts
    prior on 6 neighbours (solved by mean field) smooths, 3D components whose mean evidence is below τ fall, unless
    that were all of them, and holes within a slice are filled.
    No annotation enters any choice. Deterministic; runs on the CPU whatever the inputs' device.

    Args:
        image: [S, H, W] intensities of one patient in slice order, on one scale; any gain above or below 0.
        evidence: [S, H, W] in [0, 1] on one scale over the slices, e.g. the sigmoid of local logits.
        body: [S, H, W] bool, tissue; nothing outside it is used or can be chosen.
        level: τ as a share of the peak (the mean of the highest 1/5000 of the body's evidence).
        floor: a peak below this is no lesion, and the result is empty.
        iterations: rounds of histograms and smoothing; from the second on, seeds are the regions of the round before.
        coupling: log odds that each neighbour adds, half as much between slices; 0 does not smooth.
        evidence_sigma: Gaussian smoothing of the evidence, in slices and pixels; the default is for pixels of 1 mm and
            slices of 2 mm. Broad is right where intensities help, since they bring the edge back.
        image_sigma: Gaussian smoothing of the intensities within slices, in pixels.

    Returns:
        [S, H, W] float32 in [0, 1] on `evidence`'s device, the regions being where it is > 0.5; the order of the
        values elsewhere still ranks voxels by their score.

    Raises:
        ValueError: shapes that differ or are not [S, H, W], or `iterations` below 1.
    """
    if image.ndim != 3 or image.shape != evidence.shape or image.shape != body.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (image, evidence, body))
        raise ValueError(f"image, evidence and body must be [S, H, W] of one size; they are {shapes}")
    if iterations < 1:
        raise ValueError(f"iterations={iterations} must be at least 1")
    result = torch.zeros(evidence.shape, dtype=torch.float32)
    inside = body.cpu().numpy().astype(bool)
    if inside.any():
        box = ndimage.find_objects(inside.astype(np.uint8))[0]
        inside = inside[box]
        seen = smooth(evidence.float().cpu().numpy()[box], inside, evidence_sigma)
        if (peak := summit(seen[inside])) >= max(floor, 2 * CLIP):
            values = smooth(image.float().cpu().numpy()[box], inside, (0.0, image_sigma, image_sigma))
            regions = _refine(values, seen, inside, level * peak, iterations=iterations, coupling=coupling)
            result[box] = torch.from_numpy(regions)
    return result.to(evidence.device)


def _refine(values: Volume, seen: Volume, inside: Mask, tau: float, *, iterations: int, coupling: float) -> Volume:
    prior = logit(seen) - logit(np.float32(tau))
    chosen: Mask = (seen > tau) & inside
    posterior = prior
    for _ in range(iterations):
        if not chosen.any() or chosen.sum() == inside.sum():
            break
        score = intensity_log_ratio(values, chosen, inside) + prior
        posterior = neighbour_smoothing(score, inside, coupling=coupling)
        chosen = supported_components(posterior > 0.5, seen, tau)
    filled = np.stack([ndimage.binary_fill_holes(one) for one in chosen]) & inside
    # Above and below 0.5 for what is chosen and what is not, in the order of the posterior.
    return np.where(filled, np.maximum(posterior, 0.51), 0.5 * posterior * inside).astype(np.float32)


def smooth(values: Volume, inside: Mask, sigma: Sequence[float]) -> Volume:
    """Gaussian smoothing [S, H, W] that takes in nothing from outside the body (normalised convolution)."""
    if not any(sigma):
        return np.where(inside, values, 0).astype(np.float32)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma, truncate=3.0)
    return np.where(inside, total / np.maximum(weight, 1e-6), 0).astype(np.float32)


def summit(values: Volume, *, share: int = 5000) -> float:
    """Mean of the highest 1/share of the values, at least 10 of them: a maximum that one voxel cannot make."""
    count = min(len(values), max(10, len(values) // share))
    return float(np.partition(values, -count)[-count:].mean())


def logit(probability: Volume | np.float32) -> Volume:
    """Log odds of probabilities kept within [`CLIP`, 1 - `CLIP`]."""
    p = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(np.log(p / (1 - p)), np.float32)


def intensity_log_ratio(values: Volume, chosen: Mask, inside: Mask) -> Volume:
    """Log ratio [S, H, W] of the intensity histograms of the chosen voxels and of the others in the body.

    The bins hold equal mass of the even mixture of both, so that a small lesion has as many as the rest.
    """
    low, high = np.quantile(values[inside], [0.0005, 0.9995])
    if not high > low:
        return np.zeros_like(values)
    fine = np.clip((values - low) * (FINE / (high - low)), 0, FINE - 1).astype(np.int32)
    pair = np.stack([np.bincount(fine[which], minlength=FINE) for which in (chosen, inside & ~chosen)]).astype(float)
    pair /= pair.sum(axis=1, keepdims=True)
    mixture = pair.mean(axis=0)
    # A fine bin belongs where the middle of its mass lies, so that reversed intensities give reversed bins.
    place = np.clip(((np.cumsum(mixture) - mixture / 2) * BINS).astype(np.int64), 0, BINS - 1)
    coarse = np.stack([np.bincount(place, one, minlength=BINS) for one in pair])
    coarse = ndimage.gaussian_filter1d(coarse, 2.0, axis=1, mode="nearest") + 0.02 / BINS
    ratio = np.clip(np.log(coarse[0] / coarse[1]), -BOUND, BOUND)
    return np.asarray(ratio[place][fine], np.float32)


def neighbour_smoothing(score: Volume, inside: Mask, *, coupling: float) -> Volume:
    """Mean-field probabilities [S, H, W] of a Potts field with these log odds; outside the body it is 0."""
    if coupling == 0:
        return _sigmoid(score) * inside
    field = _sigmoid(score)
    for _ in range(SWEEPS):
        signed = np.where(inside, 2 * field - 1, np.float32(-1))
        total = score.copy()
        for axis, weight in enumerate((0.5 * coupling, coupling, coupling)):
            before, after = _slices(axis, slice(None, -1)), _slices(axis, slice(1, None))
            total[before] += np.float32(weight) * signed[after]
            total[after] += np.float32(weight) * signed[before]
        field = _sigmoid(total)
    return field * inside


def supported_components(regions: Mask, seen: Volume, tau: float) -> Mask:
    """3D components (6 neighbours) with a mean evidence of τ or more; if none has, the one with most evidence."""
    labels, count = ndimage.label(regions)
    if count == 0:
        return regions
    numbers = np.arange(1, count + 1)
    kept = np.concatenate([[False], ndimage.mean(seen, labels, numbers) >= tau])
    if not kept.any():
        kept[1 + int(np.argmax(ndimage.sum(seen, labels, numbers)))] = True
    return np.asarray(kept[labels], np.bool_)


def _slices(axis: int, part: slice) -> tuple[slice, ...]:
    whole = [slice(None)] * 3
    whole[axis] = part
    return tuple(whole)


def _sigmoid(score: Volume) -> Volume:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * score)), np.float32)
