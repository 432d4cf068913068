"""What a segmentation says of a region as class scores, so that everything that explains classifiers explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.explained_model import Explainable

__all__ = ["RegionScores"]


class RegionScores(nn.Module):
    """Mean logit of each class over chosen voxels (Seg-Grad-CAM, Vinogradova 2020, equation 2, as a mean).

    A mean instead of the paper's sum, so that maps of regions of different sizes compare; it is the same map times
    the number of voxels.

    Args:
        network: from [B, C, Z, Y, X] to logits [B, K, Z, Y, X]; of several outputs the first counts.
        voxels: [Z, Y, X] bool, where the logits are averaged.
        classes: names of the K channels.
        layer: dotted name, inside the network, of the layer that class activation maps are made of; None where it is
            not known, and must be given to the explainer.
        multi_label: each channel is a sigmoid of its own.

    Raises:
        ConfigError: no voxel.
    """

    voxels: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        voxels: Tensor,
        classes: Sequence[str],
        layer: str | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if not bool(voxels.any()):
            raise ConfigError("the region to explain has no voxel")
        self.network, self.classes, self.layer, self.multi_label = network, tuple(classes), layer, multi_label
        self.register_buffer("voxels", voxels.bool())

    def forward(self, image: Any) -> Tensor:
        """Scores [B, K] of images [B, C, Z, Y, X], or of a dict that holds them as `image`."""
        image = image["image"] if isinstance(image, Mapping) else image
        logits = first_output(self.network(image))
        if logits.shape[2:] != self.voxels.shape:
            raise ConfigError(f"logits of {list(logits.shape[2:])} voxels for a region in {list(self.voxels.shape)}")
        return logits.float()[:, :, self.voxels].mean(dim=2)

    def explainable(self) -> Explainable:
        """The image alone, by the network's innermost layer."""
        layers = {} if self.layer is None else {"image": f"network.{self.layer}"}
        return Explainable(layers=layers, classes=self.classes, multi_label=self.multi_label)


def first_output(output: Any) -> Tensor:
    """Logits at full size of what a network returned; deep supervision gives them first."""
    while isinstance(output, (list, tuple)):
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 5:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"the network gave {found}; expected logits [B, K, Z, Y, X]")
    return output
