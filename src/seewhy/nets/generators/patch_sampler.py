"""Vectors of patches, for contrastive unpaired translation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["PatchSampler", "draw_places"]


def draw_places(size: tuple[int, int], count: int, *, batch: int, foreground: Tensor | None, like: Tensor) -> Tensor:
    """Draw places of a map at random, each at most once, from the foreground as long as there is any left.

    Args:
        size: (h, w) of the map.
        count: how many; all where there are fewer.
        batch: B.
        foreground: [B, 1, H, W] bool at any size, or None for everywhere. A place counts where any of its pixels does.
        like: a tensor on the device of the map.

    Returns:
        [B, P] int64, row-major numbers of places.
    """
    order = torch.rand(batch, size[0] * size[1], device=like.device)
    if foreground is not None:
        order = order + F.adaptive_max_pool2d(foreground.to(order), size).flatten(1)
    return order.topk(min(count, order.shape[1]), dim=1).indices


class PatchSampler(nn.Module):
    """Unit vectors of sampled places of several maps, each by a small network of its own (CUT, Park 2020, F of eq. 2).

    Args:
        channels: of each map.
        dim: length of the vectors.
        patches: places per map.
    """

    def __init__(self, channels: Sequence[int], *, dim: int = 256, patches: int = 256) -> None:
        super().__init__()
        if patches < 2:
            raise ConfigError(f"model.nce.patches={patches} must be 2 or more: a patch is told from the others")
        self.patches = patches
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim)) for width in channels
        )

    def forward(
        self,
        features: Sequence[Tensor],
        places: Sequence[Tensor] | None = None,
        *,
        foreground: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Vectors of the same places, if these are given, or of places that are drawn.

        Args:
            features: maps [B, C, h, w].
            places: [B, P] of each map, as a call before returned them; None draws.
            foreground: [B, 1, H, W] bool, where to draw; None is everywhere.

        Returns:
            Vectors [B, P, dim] float32 of length 1 and places [B, P], of each map.
        """
        if places is None:
            places = [
                draw_places((x.shape[2], x.shape[3]), self.patches, batch=len(x), foreground=foreground, like=x)
                for x in features
            ]
        vectors = []
        for x, where, project in zip(features, places, self.projections, strict=True):
            index = where[:, :, None].expand(-1, -1, x.shape[1])
            taken = x.flatten(2).mT.gather(1, index)
            vectors.append(F.normalize(project(taken).float(), dim=2))
        return vectors, list(places)
