"""Pixel-adaptive refinement: align maps with the edges of the image by its intensities, without parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.types import ImageBatch, MapBatch

__all__ = ["PixelAdaptiveRefinement"]

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
        >>> from seewhy.nets.par import PixelAdaptiveRefinement
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
