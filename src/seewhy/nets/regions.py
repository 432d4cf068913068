"""Lesion regions of a patient from a classifier's evidence and the image intensities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seewhy_run.arrays.regions import choose_level as choose_level_of_arrays
from seewhy_run.arrays.regions import find_regions

__all__ = ["choose_level", "refine_regions"]


@torch.no_grad()
def refine_regions(
    image: Tensor,
    evidence: Tensor,
    body: Tensor,
    *,
    level: float | None = None,
    floor: float = 0.1,
    iterations: int = 1,
    coupling: float = 0.5,
    evidence_sigma: Sequence[float] = (2.0, 4.0, 4.0),
    image_sigma: float = 0.5,
    fill_holes: bool = True,
    unclear_level: float = 0.5,
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
    removed, except the one with most evidence above τ, and holes within a slice are filled unless the lesion is known
    to be a ring.

    How far evidence is to be trusted differs between patients and trainings. By default τ is therefore chosen for each
    patient, among .15 to .8 of the peak: the one whose regions have the strongest edges, as the mean step of intensity
    across their outline relative to the mean step in the body; or `unclear_level` where no outline is a clear edge
    (below 2.5). No choice uses annotations. The result is deterministic and computed on the CPU.

    Args:
        image: [S, H, W] intensities of one patient in slice order, on one scale; any gain above or below 0.
        evidence: [S, H, W] in [0, 1] on one scale over the slices, e.g. the sigmoid of local logits.
        body: [S, H, W] bool, tissue; voxels outside are not used and never selected.
        level: τ as a share of the peak (the mean of the highest 1/5000 of the body's evidence); None: chosen by edges.
        floor: smallest peak of a lesion; below it the result is empty.
        iterations: rounds of histograms and smoothing; from the second on, the seeds are the regions of the last round.
        coupling: log odds that each neighbour adds, half as much between slices; 0 disables smoothing.
        evidence_sigma: Gaussian smoothing of the evidence, in slices and pixels; the default is for pixels of 1 mm and
            slices of 2 mm. A large value is suitable if intensities are informative, since they restore the edges.
        image_sigma: Gaussian smoothing of the intensities within slices, in pixels.
        fill_holes: fill holes within slices, e.g. a necrosis that belongs to a whole tumour; not for rings, e.g. an
            enhancing tumour, to which the necrosis inside does not belong.
        unclear_level: τ as a share of the peak where no outline is a clear edge.

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
        >>> inside = regions & (lesion > 0)
        >>> bool(inside.sum() > 0.9 * lesion.sum()), int((regions & ~inside).sum())
        (True, 0)
    """
    if image.ndim != 3 or image.shape != evidence.shape or image.shape != body.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (image, evidence, body))
        raise ValueError(f"image, evidence and body have shapes {shapes}; expected equal shapes [S, H, W]")
    if iterations < 1:
        raise ValueError(f"iterations={iterations}; expected at least 1")
    regions = find_regions(
        image.float().cpu().numpy(),
        evidence.float().cpu().numpy(),
        body.cpu().numpy().astype(bool),
        level=level,
        floor=floor,
        iterations=iterations,
        coupling=coupling,
        evidence_sigma=evidence_sigma,
        image_sigma=image_sigma,
        fill_holes=fill_holes,
        unclear_level=unclear_level,
    )
    return torch.from_numpy(regions).to(evidence.device)


@torch.no_grad()
def choose_level(image: Tensor, evidence: Tensor, body: Tensor, **options: Any) -> float | None:
    """Return the level that `refine_regions` chooses by edges for a patient; None if no edges are clear.

    Args:
        image: [S, H, W] intensities.
        evidence: [S, H, W] in [0, 1].
        body: [S, H, W] bool.
        options: those of `refine_regions` but `level` and `unclear_level`.

    Example:
        >>> import torch
        >>> from seewhy.nets.regions import choose_level
        >>> image = torch.zeros(4, 32, 32)
        >>> image[1:3, 12:20, 12:20] = 1
        >>> evidence = torch.nn.functional.avg_pool2d(image[:, None], 9, 1, 4)[:, 0]
        >>> choose_level(image, evidence, torch.ones_like(image, dtype=torch.bool), evidence_sigma=(0, 0, 0))
        0.15
        >>> choose_level(image, 0 * evidence, torch.ones_like(image, dtype=torch.bool)) is None
        True
    """
    arrays = image.float().cpu().numpy(), evidence.float().cpu().numpy(), body.cpu().numpy().astype(bool)
    return choose_level_of_arrays(*arrays, **options)
