"""Which EfficientNet of torchvision some tensors belong to, told from their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor

from seewhy.interop.tensors import Mismatch
from seewhy.nets.classifiers.planar_features import PlanarFeatures

__all__ = ["EFFICIENTNETS", "closest_efficientnet"]

EFFICIENTNETS = (
    *(f"efficientnet_b{size}" for size in range(8)),
    *(f"efficientnet_v2_{size}" for size in "sml"),
)
STEM = "0.0.weight"


def closest_efficientnet(features: Mapping[str, Tensor], names: Iterable[str] = EFFICIENTNETS) -> str:
    """The network whose tensors are most like these: the one they are of, where there is such a one.

    Names in configurations and folders are no guide: a reference system trains B0 under the name B5.

    Args:
        features: tensors of torchvision's `features`, by their names inside of it (`0.0.weight`, …).
        names: networks to choose from.
    """
    stem = features.get(STEM)
    channels = int(stem.shape[1]) if stem is not None and stem.ndim == 4 else 3
    best, fewest = "", -1
    for name in names:
        expected = _tensors(name, channels)
        differences = len(Mismatch(features, expected))
        if not differences:
            return name
        if fewest < 0 or differences < fewest:
            best, fewest = name, differences
    return best


@cache
def _tensors(name: str, channels: int) -> Mapping[str, Tensor]:
    """Tensors of a network without memory. Building all 11 networks takes seconds, so they are built once."""
    with torch.device("meta"):
        return PlanarFeatures(name, in_channels=channels, library="torchvision").stages.state_dict()
