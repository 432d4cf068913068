"""Refinement of maps by intensities of the image: pixel-adaptive averaging of slices, and regions of a patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.types import ImageBatch, MapBatch
from seewhy_run.arrays.regions import choose_level as choose_level_of_arrays
from seewhy_run.arrays.regions import find_regions

__all__ = ["PixelAdaptiveRefinement", "choose_level", "refine_regions"]

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class PixelAdaptiveRefinement:
    """Repeated local averaging, weighted by similar intensity (Araslanov 2020, sec. 3.4; Ru 2022, eq. 9-11).

    The neighbours of a pixel lie in eight directions at several distances (edges are replicated). Neighbour n has the
    weight softmax_n(-mean over channels of (|ΔI| / σ_I / scale)²) + position_weight · softmax_n(-(d / σ_d / scale)²),
    where σ are standard deviations over the neighbours and d are distances in pixels. The weights of a pixel sum to
    1 + position_weight, so n iterations multiply a constant by (1 + position_weight)^n: compare channels, not values.
    The result does not depend on gain and offset of the intensities, so images may be normalised or raw.

    Weights are computed once per image and applied to all channels; neighbours are views of one padded copy, so that
    memory beyond the weights does not grow with their number.

    Args:
        dilations: distances of the neighbours, in pixels of the downscaled image.
        iterations: number of iterations.
        downscale: factor by which image and maps are downscaled first.
        scale: width of both kernels, in standard deviations.
        position_weight: weight of the distance kernel relative to the intensity kernel.

    Example:
        >>> import torch
        >>> from seewhy.nets.refinement import PixelAdaptiveRefinement
        >>> refine = PixelAdaptiveRefinement(dilations=(1, 2), iterations=2)
        >>> refine(torch.rand(1, 1, 16, 16), torch.rand(1, 3, 4, 4)).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(
        self,
        *,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        iterations: int = 10,
        downscale: int = 2,
        scale: float = 0.3,
        position_weight: float = 0.01,
    ) -> None:
        if not dilations or min(dilations) < 1 or iterations < 0 or downscale < 1 or scale <= 0:
            raise ConfigError(
                f"refinement: dilations={list(dilations)} and downscale={downscale} must be ≥ 1, "
                f"iterations={iterations} ≥ 0 and scale={scale} > 0"
            )
        self.dilations = tuple(int(dilation) for dilation in dilations)
        self.offsets = [(d * row, d * column) for d in dilations for row, column in DIRECTIONS]
        self.reach = max(dilations)
        self.iterations, self.downscale = int(iterations), int(downscale)
        self.scale, self.position_weight = float(scale), float(position_weight)

    @torch.no_grad()
    def __call__(self, image: ImageBatch, maps: MapBatch) -> MapBatch:
        """Refine maps of a batch.

        Args:
            image: [B, C, H, W] intensities in any units.
            maps: [B, K, h, w], resized to the downscaled image.

        Returns:
            [B, K, H // downscale, W // downscale] float32.
        """
        size = self.size(image)
        with torch.autocast(image.device.type, enabled=False):
            small = image.float()
            if size != tuple(image.shape[-2:]):
                small = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
            refined = maps.float()
            if size != tuple(maps.shape[-2:]):
                refined = F.interpolate(refined, size=size, mode="bilinear", align_corners=False)
            if not self.iterations:
                return refined
            weights = self.weights(small)
            for _ in range(self.iterations):
                refined = self._average(refined, weights)
        return refined

    def settings(self) -> dict[str, Any]:
        """The options as plain data."""
        return {
            "dilations": list(self.dilations),
            "iterations": self.iterations,
            "downscale": self.downscale,
            "scale": self.scale,
            "position_weight": self.position_weight,
        }

    def size(self, image: ImageBatch) -> tuple[int, int]:
        """Return height and width of the downscaled image."""
        height, width = (max(1, side // self.downscale) for side in image.shape[-2:])
        return height, width

    def weights(self, image: ImageBatch) -> list[Tensor]:
        """Compute the weights of the neighbours of each pixel, one [B, 1, H, W] per offset, in order of `offsets`."""
        neighbours = torch.stack(self._list_neighbours(image))
        deviation = neighbours.std(dim=0) + 1e-8
        similarity = neighbours.sub_(image).div_(deviation).div_(self.scale).square_().mean(dim=2, keepdim=True).neg_()
        distances = torch.tensor([math.hypot(*offset) for offset in self.offsets])
        nearness = torch.softmax(-((distances / (distances.std() + 1e-8) / self.scale) ** 2), dim=0).to(image.device)
        weights = similarity.softmax(dim=0) + self.position_weight * nearness.view(-1, 1, 1, 1, 1)
        return list(weights.unbind())

    def _list_neighbours(self, maps: Tensor) -> list[Tensor]:
        """Return the maps shifted by each offset, as views of one padded copy."""
        height, width = maps.shape[-2:]
        reach = self.reach
        padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
        return [
            padded[..., reach + row : reach + row + height, reach + column : reach + column + width]
            for row, column in self.offsets
        ]

    def _average(self, maps: Tensor, weights: list[Tensor]) -> Tensor:
        """Average over the neighbours with weights."""
        neighbours = self._list_neighbours(maps)
        total = neighbours[0] * weights[0]
        for neighbour, weight in zip(neighbours[1:], weights[1:], strict=True):
            total.addcmul_(neighbour, weight)
        return total


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
        >>> from seewhy.nets.refinement import refine_regions
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
        >>> from seewhy.nets.refinement import choose_level
        >>> image = torch.zeros(4, 32, 32)
        >>> image[1:3, 12:20, 12:20] = 1
        >>> evidence = torch.nn.functional.avg_pool2d(image[:, None], 9, 1, 4)[:, 0]
        >>> choose_level(image, evidence, torch.ones_like(image, dtype=torch.bool), evidence_sigma=(0, 0, 0))
        0.6
        >>> choose_level(image, 0 * evidence, torch.ones_like(image, dtype=torch.bool)) is None
        True
    """
    arrays = image.float().cpu().numpy(), evidence.float().cpu().numpy(), body.cpu().numpy().astype(bool)
    return choose_level_of_arrays(*arrays, **options)
