"""Pixel labels made of class activation maps: for training where they are sure, and as soft maps for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.nets.affinity import IGNORE, RandomWalk
from seewhy.nets.par import PixelAdaptiveRefinement
from seewhy.types import Affinity, ImageBatch, MapBatch

__all__ = ["PseudoLabels", "Walks", "class_shares", "label_shares", "two_threshold_labels"]


@dataclass(frozen=True)
class Walks:
    """What a random walk goes along."""

    affinity: Affinity
    """[B, N, N] in [0, 1]."""
    size: tuple[int, int]
    """Rows and columns of the N tokens."""


def class_shares(maps: MapBatch, present: Tensor, background: float) -> Tensor:
    """Softmax over a constant background score and the maps of the classes that are present.

    Args:
        maps: [B, K, h, w] in [0, 1].
        present: [B, K] bool; an absent class gets exactly 0.
        background: score of the background.

    Returns:
        [B, 1 + K, h, w] float32, background first, summing to 1.
    """
    scores = maps.float().masked_fill(~present[:, :, None, None], float("-inf"))
    return F.pad(scores, (0, 0, 0, 0, 1, 0), value=background).softmax(dim=1)


def two_threshold_labels(strict: Tensor, lenient: Tensor) -> Tensor:
    """Foreground where it beats a high background score, background where it does not even beat a low one.

    Args:
        strict: [B, 1 + K, H, W] channels made with the high background score.
        lenient: the same made with the low one.

    Returns:
        [B, H, W] int64 in 0…K, and 255 where the two disagree.
    """
    foreground = strict.argmax(dim=1)
    background = lenient.argmax(dim=1) == 0
    return torch.where(foreground > 0, foreground, torch.where(background, 0, IGNORE))


def label_shares(labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How many pixels have a label, and how many of all pixels are foreground: what shows that labels break down.

    Args:
        labels: route → [B, H, W] int64.

    Returns:
        `coverage_<route>` and `foreground_<route>`, scalars in [0, 1].
    """
    shares = {}
    for route, pixels in labels.items():
        known = pixels != IGNORE
        shares[f"coverage_{route}"] = known.float().mean()
        shares[f"foreground_{route}"] = (known & (pixels > 0)).float().mean()
    return shares


class PseudoLabels:
    """Turns maps into labels by two routes (Ru 2022, sec. 3.3-3.5).

    Route `cam`: maps and background, softmax, refinement, two thresholds. Route `walk`: maps and background on
    the tokens' grid, softmax, random walk along the affinities, refinement, two thresholds. All routes and
    thresholds go through one refinement, since its weights depend on the image only.

    Args:
        low: background score below which nothing is foreground.
        high: background score that foreground has to beat.
        background: background score of the soft map, in prediction.
        refine: pixel-adaptive refinement, or None to leave it out.
        walk: the random walk, or None where there are no affinities.
    """

    def __init__(
        self,
        *,
        low: float = 0.35,
        high: float = 0.55,
        background: float = 0.45,
        refine: PixelAdaptiveRefinement | None = None,
        walk: RandomWalk | None = None,
    ) -> None:
        if not 0.0 <= low <= background <= high <= 1.0:
            raise ConfigError(
                f"label thresholds low={low}, background={background}, high={high} must be in this order within 0…1"
            )
        self.low, self.high, self.background = float(low), float(high), float(background)
        self.refine = refine
        self.walk = walk

    @torch.no_grad()
    def __call__(
        self, image: ImageBatch, cam: MapBatch, present: Tensor, *, walks: Walks | None = None, routes: Sequence[str]
    ) -> dict[str, Tensor]:
        """Labels by one or both routes.

        Args:
            image: [B, C, H, W], any units.
            cam: [B, K, H, W] in [0, 1].
            present: [B, K] bool; other classes get no pixel.
            walks: affinities, needed by route `walk`.
            routes: `cam`, `walk` or both.

        Returns:
            route → [B, H, W] int64: 0 background, 1…K foreground, 255 unknown.
        """
        shares = [
            self._shares(cam, present, background, walks if route == "walk" else None)
            for route in routes
            for background in (self.high, self.low)
        ]
        size = image.shape[-2:] if self.refine is None else self.refine.size(image)
        refined = self._refined(image, torch.cat([_resize(share, size) for share in shares], dim=1))
        pairs = refined.split(2 * (1 + cam.shape[1]), dim=1)
        return {route: two_threshold_labels(*pair.chunk(2, dim=1)) for route, pair in zip(routes, pairs, strict=True)}

    @torch.no_grad()
    def soft(self, image: ImageBatch, cam: MapBatch, present: Tensor, walks: Walks) -> MapBatch:
        """Maps [B, K, H, W] after walk and refinement: each class's share of all, background included."""
        channels = self._refined(image, self._shares(cam, present, self.background, walks))
        return (channels / channels.sum(dim=1, keepdim=True).clamp_min(1e-8))[:, 1:]

    def _shares(self, cam: Tensor, present: Tensor, background: float, walks: Walks | None) -> Tensor:
        """Background and classes before refinement, walked where affinities are given."""
        if walks is None:
            return class_shares(cam, present, background)
        assert self.walk is not None
        return self.walk(class_shares(_resize(cam, walks.size), present, background), walks.affinity)

    def _refined(self, image: Tensor, channels: Tensor) -> Tensor:
        """Channels refined and at the image's size."""
        if self.refine is not None:
            channels = self.refine(image, channels)
        return _resize(channels, image.shape[-2:])


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps at a size [H, W], float32, bilinear."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps.float()
    return F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False)
