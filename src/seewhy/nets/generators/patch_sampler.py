"""Sample feature vectors of patches, for contrastive unpaired translation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["PatchSampler", "draw_places"]


def draw_places(size: tuple[int, int], count: int, *, batch: int, foreground: Tensor | None, like: Tensor) -> Tensor:
    """Draw random positions of a map without replacement, first from the foreground.

    Args:
        size: (h, w) of the map.
        count: number of positions, at most those of the map.
        batch: B.
        foreground: [B, 1, H, W] bool at any size, or None for the whole map. A position is foreground if any of its
            pixels is.
        like: a tensor on the device of the map.

    Returns:
        [B, P] int64, row-major indices of positions.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.patch_sampler import draw_places
        >>> foreground = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        >>> foreground[..., 0, 2:] = True
        >>> sorted(draw_places((4, 4), 2, batch=1, foreground=foreground, like=foreground)[0].tolist())
        [2, 3]
    """
    order = torch.rand(batch, size[0] * size[1], device=like.device)
    if foreground is not None:
        order = order + F.adaptive_max_pool2d(foreground.to(order), size).flatten(1)
    return order.topk(min(count, order.shape[1]), dim=1).indices


class PatchSampler(nn.Module):
    """Unit vectors of sampled positions of several maps, with one small network per map (CUT, Park 2020, F of eq. 2).

    Args:
        channels: channels of each map.
        dim: length of the vectors.
        patches: positions per map.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.patch_sampler import PatchSampler
        >>> sampler = PatchSampler([4, 8], dim=16, patches=5)
        >>> maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)]
        >>> vectors, places = sampler(maps)
        >>> [tuple(v.shape) for v in vectors], torch.equal(sampler(maps, places)[0][0], vectors[0])
        ([(2, 5, 16), (2, 5, 16)], True)
    """

    def __init__(self, channels: Sequence[int], *, dim: int = 256, patches: int = 256) -> None:
        super().__init__()
        if patches < 2:
            raise ConfigError(f"model.nce.patches={patches}; expected at least 2, since patches are compared")
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
        """Compute the vectors of given positions, or of new random positions.

        Args:
            features: maps [B, C, h, w].
            places: positions [B, P] of each map, as returned by an earlier call; None draws new ones.
            foreground: [B, 1, H, W] bool, where to draw; None is everywhere.

        Returns:
            Vectors [B, P, dim] float32 of length 1 and positions [B, P], for each map.
        """
        if places is None:
            places = [
                draw_places((x.shape[2], x.shape[3]), self.patches, batch=len(x), foreground=foreground, like=x)
                for x in features
            ]
        vectors = []
        for x, where, project in zip(features, places, self.projections, strict=True):
            index = where[:, :, None].expand(-1, -1, x.shape[1])
            sampled = x.flatten(2).mT.gather(1, index)
            vectors.append(F.normalize(project(sampled).float(), dim=2))
        return vectors, list(places)
