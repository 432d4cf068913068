"""Lesion regions of a patient from a classifier's evidence and the image intensities."""

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
"""Equal-width bins that are merged to `BINS`."""
BOUND = 4.0
"""Bound on the log ratio of intensities, so that a distractor as bright as the lesion needs evidence, too."""
CLIP = 0.01
"""Evidence is clipped to this distance from 0 and 1 before its logit, for the same reason."""
SWEEPS = 10
"""Mean-field sweeps, enough for convergence."""


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
    """Combine a classifier's evidence for a lesion with the intensities over a whole patient.

    Evidence is spatially coarse but specific for the lesion; intensities are sharp but not specific. Voxels whose
    smoothed evidence e exceeds a share τ of the patient's peak are seeds. Two histograms of intensity, of the seeds and
    of the rest of the body, give a log ratio, and each voxel's score is

        u = log(h_seed(I) / h_rest(I)) + logit(e) - logit(τ).

    Each histogram is normalised to mass 1: wrong seeds, which mix the two classes, then shrink the ratio but do not
    move its zero (Menon et al. 2015, corrupted labels and the balanced error), so coarse seeds suffice. The sign of the
    ratio is learned, so dark lesions work; uninformative intensities give 0, and the evidence alone decides. A Potts
    prior on 6 neighbours (solved by mean field) smooths the result. 3D components with a mean evidence below τ are
    removed, unless this removes all of them, and holes within a slice are filled.
    No choice uses annotations. The result is deterministic and computed on the CPU.

    Args:
        image: [S, H, W] intensities of one patient in slice order, on one scale; any gain above or below 0.
        evidence: [S, H, W] in [0, 1] on one scale over the slices, e.g. the sigmoid of local logits.
        body: [S, H, W] bool, tissue; voxels outside are not used and never selected.
        level: τ as a share of the peak (the mean of the highest 1/5000 of the body's evidence).
        floor: smallest peak of a lesion; below it the result is empty.
        iterations: rounds of histograms and smoothing; from the second on, the seeds are the regions of the last round.
        coupling: log odds that each neighbour adds, half as much between slices; 0 disables smoothing.
        evidence_sigma: Gaussian smoothing of the evidence, in slices and pixels; the default is for pixels of 1 mm and
            slices of 2 mm. A large value is suitable if intensities are informative, since they restore the edges.
        image_sigma: Gaussian smoothing of the intensities within slices, in pixels.

    Returns:
        [S, H, W] float32 in [0, 1] on `evidence`'s device; the regions are the voxels above 0.5, and elsewhere the
        values rank voxels by their score.

    Raises:
        ValueError: shapes that differ or are not [S, H, W], or `iterations` below 1.

    Example:
        >>> import torch
        >>> from seewhy.nets.regions import refine_regions
        >>> _ = torch.manual_seed(0)
        >>> lesion = torch.zeros(4, 32, 32)
        >>> lesion[1:3, 12:20, 12:20] = 1
        >>> evidence = torch.nn.functional.avg_pool2d(lesion[:, None], 9, 1, 4)[:, 0]  # coarse
        >>> image = 2 * lesion + 0.1 * torch.randn(4, 32, 32)
        >>> regions = refine_regions(image, evidence, torch.ones(4, 32, 32, dtype=torch.bool)) > 0.5
        >>> regions.shape, bool(regions[1:3, 12:20, 12:20].all()), bool(regions[:, :4].any())
        (torch.Size([4, 32, 32]), True, False)
    """
    if image.ndim != 3 or image.shape != evidence.shape or image.shape != body.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (image, evidence, body))
        raise ValueError(f"image, evidence and body have shapes {shapes}; expected equal shapes [S, H, W]")
    if iterations < 1:
        raise ValueError(f"iterations={iterations}; expected at least 1")
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
    posterior = _sigmoid(prior)  # where there is nothing to compare, the evidence alone
    for _ in range(iterations):
        if not chosen.any() or chosen.sum() == inside.sum():
            break
        score = intensity_log_ratio(values, chosen, inside) + prior
        posterior = neighbour_smoothing(score, inside, coupling=coupling)
        chosen = supported_components(posterior > 0.5, seen, tau)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in chosen]) & inside
    # Above 0.5 for selected voxels and below for others, in the order of the posterior.
    return np.where(filled, np.maximum(posterior, 0.51), 0.5 * posterior * inside).astype(np.float32)


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
    """Keep 3D components (6 neighbours) with a mean evidence of at least τ, or else the one with most evidence."""
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
