"""How much of all evidence each slice and each region holds, on the raw scale that all inputs share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.judging.similarity import joint
from seewhy.explain.maps import Maps

__all__ = ["region_shares", "slice_shares"]


def slice_shares(maps: Maps, *, axis: int = 0) -> dict[str, Tensor]:
    """Share of each slice in the evidence of all inputs; the shares by input are `Maps.shares`.

    Args:
        maps: of volumes, or of planes whose rows or columns are asked for.
        axis: spatial axis to slice along, 0 first.

    Returns:
        Input → [B, slices] float64 that sum to the input's share; 0 where there is no evidence at all.

    Raises:
        ConfigError: no such axis.
    """
    total = _total(maps)
    shares = {}
    for name, one in maps.evidence().items():
        axes = one.ndim - 1
        if not 0 <= axis < axes:
            raise ConfigError(f"axis={axis}: the map of {name!r} has the spatial axes 0 to {axes - 1}")
        rest = [other for other in range(1, one.ndim) if other != axis + 1]
        shares[name] = one.double().sum(dim=rest) / total[:, None]
    return shares


def region_shares(maps: Maps, atlas: Tensor | Mapping[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """Share of each region of an atlas in the evidence of all inputs.

    Hold them against `(atlas == region)`'s share of the volume: evidence spread evenly has that.

    Args:
        maps: of volumes or planes.
        atlas: [*s] or [B, *s] integer labels on the maps' grid, of the only input; or input → labels.

    Returns:
        Input → region → [B] float64, for every label that occurs, 0 (background) included.

    Raises:
        ConfigError: labels of an unknown input, on another grid, or not integers.
    """
    if isinstance(atlas, Tensor):
        if len(maps.maps) > 1:
            raise ConfigError(f"one atlas for the inputs {', '.join(maps.maps)}; give a mapping input → labels")
        atlas = {next(iter(maps.maps)): atlas}
    total, evidence = _total(maps), maps.evidence()
    shares: dict[str, dict[int, Tensor]] = {}
    for name, labels in atlas.items():
        if name not in evidence:
            raise ConfigError(f"an atlas of the input {name!r}; {nearest(name, evidence)}")
        one = evidence[name]
        if labels.is_floating_point() or labels.shape not in (one.shape, one.shape[1:]):
            raise ConfigError(
                f"the atlas of {name!r} is {labels.dtype} {tuple(labels.shape)}; expected integers on the map's grid "
                f"{tuple(one.shape[1:])}"
            )
        names, place = labels.to(one.device).long().unique(return_inverse=True)
        sums = torch.zeros(len(one), len(names), dtype=torch.float64, device=one.device)
        sums.scatter_add_(1, place.expand(one.shape).reshape(len(one), -1), one.flatten(1).double())
        shares[name] = {int(label): sums[:, i] / total for i, label in enumerate(names)}
    return shares


def _total(maps: Maps) -> Tensor:
    return joint(maps.evidence()).double().sum(dim=1).clamp_min(1e-300)
