"""timm's own pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence

import timm
from torch import nn

from seewhy.errors import ConfigError
from seewhy.nets.planar_features import PlanarFeatures

__all__ = ["load_timm_weights"]


def load_timm_weights(backbones: Sequence[nn.Module]) -> None:
    """Give networks the weights that timm publishes for them, downloaded where they are not cached.

    The first convolution is fitted to the image's channels as timm does: for one channel the weights are summed.

    Args:
        backbones: of one kind; each gets the same weights.

    Raises:
        ConfigError: networks that are not timm's, or weights that timm does not have or cannot get.
    """
    for backbone in backbones:
        if not isinstance(backbone, PlanarFeatures) or not hasattr(backbone.net, "pretrained_cfg"):
            raise ConfigError("model.pretrained=true takes timm's weights, so the backbones must be timm's")
        stem = next(layer for layer in backbone.net.modules() if isinstance(layer, nn.Conv2d))
        try:
            # Hugging Face's cache makes every network after the first a local file.
            source = timm.create_model(
                backbone.name, pretrained=True, in_chans=stem.in_channels, num_classes=0, global_pool=""
            )
        except Exception as error:  # whatever the client raises without network or weights
            raise ConfigError(
                f"model.pretrained=true: timm could not get weights of {backbone.name!r} ({error}); "
                "give a file with weights=… instead"
            ) from error
        backbone.net.load_state_dict(source.state_dict())
