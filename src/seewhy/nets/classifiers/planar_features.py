"""2D networks by name, cut before their pooling, so that the module's output is its last feature map.

timm's own pretrained weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import timm
import torchvision
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.types import ImageBatch

__all__ = ["PlanarFeatures", "load_timm_weights"]


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


LIBRARIES = ("timm", "torchvision")


class PlanarFeatures(nn.Module):
    """The last feature map of a network of timm or torchvision; nothing is ever downloaded.

    Parameters keep the library's own names under `net`, so files in its layout load as they are.

    Args:
        name: a network of `timm.list_models()` whose last features are a map (convolutional networks, and windowed
            transformers at the size they were built for), or an EfficientNet of torchvision (`efficientnet_b0` …
            `efficientnet_b7`, `efficientnet_v2_s`, `_m`, `_l`).
        in_channels: channels of the image.
        library: `timm` or `torchvision`.
        options: passed to `timm.create_model` or to torchvision's constructor, e.g. `drop_path_rate`
            (`stochastic_depth_prob` in torchvision).

    Attributes:
        channels: of the feature map, as the library says.

    Raises:
        ConfigError: no such network, or options it does not take.
    """

    def __init__(self, name: str, *, in_channels: int, library: str = "timm", **options: Any) -> None:
        super().__init__()
        if library not in LIBRARIES:
            raise ConfigError(f"library={library!r} is unknown; {nearest(library, LIBRARIES)}")
        self.name = name
        build = _timm_net if library == "timm" else _torchvision_net
        self.net, self.channels = build(name, in_channels, options)
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).upper().endswith("NHWC")
        # torchvision's own forward pools; timm's is told not to.
        self._path = "" if library == "timm" else "features"

    @property
    def stages(self) -> nn.Module:
        """The part of `net` that gives the map; its children run in order."""
        return self.net.get_submodule(self._path)

    def forward(self, image: ImageBatch) -> Tensor:
        """Features [B, channels, h, w] of images [B, C, H, W]."""
        features = cast(Tensor, self.stages(image))
        if features.ndim != 4:
            raise ConfigError(
                f"{self.name} gives features {tuple(features.shape)}, not a map [B, C, h, w]; "
                "choose a convolutional network"
            )
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def _timm_net(name: str, in_channels: int, options: dict[str, Any]) -> tuple[Any, int]:
    if not timm.is_model(name):
        raise ConfigError(f"timm has no network {name!r}; {nearest(name, timm.list_models())}")
    try:
        net = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=0, global_pool="", **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"timm does not build {name!r} with {options}: {error}") from error
    # Networks with a layer between map and pooling (MobileNetV3) are wider there than `num_features` says.
    return net, int(getattr(net, "head_hidden_size", None) or net.num_features)


def _torchvision_net(name: str, in_channels: int, options: dict[str, Any]) -> tuple[Any, int]:
    known = [model for model in torchvision.models.list_models() if model.startswith("efficientnet")]
    if name not in known:
        raise ConfigError(f"torchvision has no EfficientNet {name!r}; {nearest(name, known)}")
    try:
        net = torchvision.models.get_model(name, weights=None, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"torchvision does not build {name!r} with {options}: {error}") from error
    channels = int(net.classifier[-1].in_features)
    stem = net.features[0][0]
    if in_channels != stem.in_channels:
        net.features[0][0] = nn.Conv2d(
            in_channels, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, bias=False
        )
    net.classifier = nn.Identity()
    return net, channels
