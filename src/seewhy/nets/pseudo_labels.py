"""Pseudo labels of pixels from class activation maps: hard labels for training, soft maps for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.nets.affinity import IGNORE, RandomWalk
from seewhy.nets.refinement import PixelAdaptiveRefinement
from seewhy.types import Affinity, ImageBatch, MapBatch

__all__ = ["PseudoLabels", "Walks", "class_shares", "label_shares", "two_threshold_labels"]


@dataclass(frozen=True)
class Walks:
    """Affinities of a random walk."""

    affinity: Affinity
    """[B, N, N] in [0, 1]."""
    size: tuple[int, int]
    """Rows and columns of the N tokens."""


def class_shares(maps: MapBatch, present: Tensor, background: float) -> Tensor:
    """Compute the softmax over a constant background score and the maps of the classes that are present.

    Args:
        maps: [B, K, h, w] in [0, 1].
        present: [B, K] bool; an absent class gets exactly 0.
        background: score of the background.

    Returns:
        [B, 1 + K, h, w] float32, background first, summing to 1.

    Example:
        >>> import torch
        >>> from seewhy.nets.pseudo_labels import class_shares
        >>> maps = torch.tensor([[[[0.5]], [[0.9]]]])
        >>> class_shares(maps, torch.tensor([[True, False]]), background=0.5).flatten()
        tensor([0.5000, 0.5000, 0.0000])
    """
    scores = maps.float().masked_fill(~present[:, :, None, None], float("-inf"))
    return F.pad(scores, (0, 0, 0, 0, 1, 0), value=background).softmax(dim=1)


def two_threshold_labels(strict: Tensor, lenient: Tensor) -> Tensor:
    """Label foreground above a high background score, background below a low one, and other pixels as unknown.

    Args:
        strict: [B, 1 + K, H, W] channels computed with the high background score.
        lenient: the same computed with the low background score.

    Returns:
        [B, H, W] int64 in 0…K, and 255 where the two disagree.

    Example:
        >>> import torch
        >>> from seewhy.nets.pseudo_labels import two_threshold_labels
        >>> foreground = torch.tensor([0.9, 0.5, 0.1])
        >>> strict, lenient = (torch.stack([torch.full((3,), b), foreground])[None, :, None] for b in (0.7, 0.3))
        >>> two_threshold_labels(strict, lenient)
        tensor([[[  1, 255,   0]]])
    """
    # Equal to argmax over the channels, whose memory is far apart; on a CPU it takes ten times as long.
    best, index = strict[:, 1:].max(dim=1)
    background = lenient[:, 0] >= lenient[:, 1:].amax(dim=1)
    return torch.where(best > strict[:, 0], index + 1, torch.where(background, 0, IGNORE))


def label_shares(labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute the shares of labelled pixels and of foreground pixels, to monitor degenerate labels.

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
    """Labels from maps by two routes (Ru 2022, sec. 3.3-3.5).

    Route `cam`: maps and background, softmax, refinement, two thresholds. Route `walk`: maps and background on the
    grid of tokens, softmax, random walk along the affinities, refinement, two thresholds. All routes and thresholds
    share one refinement, since its weights depend on the image only.

    Args:
        low: background score below which a pixel is background.
        high: background score above which a pixel is foreground.
        background: background score of the soft map, in prediction.
        refine: pixel-adaptive refinement; None skips it.
        walk: the random walk; None without affinities.

    Example:
        >>> import torch
        >>> from seewhy.nets.pseudo_labels import PseudoLabels
        >>> cam = torch.tensor([[[[0.9, 0.5], [0.1, 0.0]]]])
        >>> PseudoLabels()(torch.rand(1, 1, 2, 2), cam, torch.tensor([[True]]), routes=["cam"])["cam"]
        tensor([[[  1, 255],
                 [  0,   0]]])
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
                f"label thresholds: low={low}, background={background}, high={high}; expected "
                "0 ≤ low ≤ background ≤ high ≤ 1"
            )
        self.low, self.high, self.background = float(low), float(high), float(background)
        self.refine = refine
        self.walk = walk

    @torch.no_grad()
    def __call__(
        self, image: ImageBatch, cam: MapBatch, present: Tensor, *, walks: Walks | None = None, routes: Sequence[str]
    ) -> dict[str, Tensor]:
        """Compute labels by one or both routes.

        Args:
            image: [B, C, H, W], any units.
            cam: [B, K, H, W] in [0, 1].
            present: [B, K] bool; absent classes get no pixel.
            walks: affinities, required by route `walk`.
            routes: `cam`, `walk` or both.

        Returns:
            route → [B, H, W] int64: 0 background, 1…K foreground, 255 unknown.
        """
        shares = [
            self._compute_shares(cam, present, background, walks if route == "walk" else None)
            for route in routes
            for background in (self.high, self.low)
        ]
        size = image.shape[-2:] if self.refine is None else self.refine.size(image)
        refined = self._refine_maps(image, torch.cat([_resize(share, size) for share in shares], dim=1))
        pairs = refined.split(2 * (1 + cam.shape[1]), dim=1)
        return {route: two_threshold_labels(*pair.chunk(2, dim=1)) for route, pair in zip(routes, pairs, strict=True)}

    @torch.no_grad()
    def soft(self, image: ImageBatch, cam: MapBatch, present: Tensor, walks: Walks) -> MapBatch:
        """Compute maps [B, K, H, W] after walk and refinement: the share of each class, including the background."""
        channels = self._refine_maps(image, self._compute_shares(cam, present, self.background, walks))
        return (channels / channels.sum(dim=1, keepdim=True).clamp_min(1e-8))[:, 1:]

    def _compute_shares(self, cam: Tensor, present: Tensor, background: float, walks: Walks | None) -> Tensor:
        """Compute the shares of background and classes before refinement, with the walk if affinities are given."""
        if walks is None:
            return class_shares(cam, present, background)
        if self.walk is None:
            raise ConfigError("pseudo labels by route walk need a random walk; give walk=…, or use route cam")
        return self.walk(class_shares(_resize(cam, walks.size), present, background), walks.affinity)

    def _refine_maps(self, image: Tensor, channels: Tensor) -> Tensor:
        """Refine the channels and resize them to the image."""
        if self.refine is not None:
            channels = self.refine(image, channels)
        return _resize(channels, image.shape[-2:])


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps to [H, W], float32, bilinear."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps.float()
    return F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False)
