"""2D networks of timm and torchvision by name, cut before their pooling, and timm's pretrained weights for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import timm
import torchvision
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.options import check_choice
from seewhy.types import ImageBatch

__all__ = ["PlanarFeatures", "load_timm_weights"]


def load_timm_weights(backbones: Sequence[nn.Module]) -> None:
    """Load the weights that timm publishes for the networks; they are downloaded if they are not cached.

    The first convolution is adapted to the channels of the image as in timm: for one channel the weights are summed.

    Args:
        backbones: networks of one kind; each gets the same weights.

    Raises:
        ConfigError: networks of another library, or weights that timm does not have or cannot download.
    """
    for backbone in backbones:
        if not isinstance(backbone, PlanarFeatures) or backbone.library != "timm":
            raise ConfigError("model.pretrained=true loads timm's weights; the backbones must be networks of timm")
        stem = next(layer for layer in backbone.net.modules() if isinstance(layer, nn.Conv2d))
        try:
            # After the first network, the weights come from the cache of Hugging Face.
            source = timm.create_model(
                backbone.name, pretrained=True, in_chans=stem.in_channels, num_classes=0, global_pool=""
            )
        except Exception as error:  # the client raises many types without network or weights
            raise ConfigError(
                f"model.pretrained=true: timm cannot load weights of {backbone.name!r} ({error}); "
                "use a file with weights=…"
            ) from error
        backbone.net.load_state_dict(source.state_dict())


LIBRARIES = ("timm", "torchvision")


class PlanarFeatures(nn.Module):
    """Last feature map of a network of timm or torchvision, with random weights.

    Parameters keep the names of the library under `net`, so files in its layout load unchanged.

    Args:
        name: a network of `timm.list_models()` whose last features are a map (convolutional networks, and windowed
            transformers at the size they were built for), or an EfficientNet of torchvision (`efficientnet_b0` …
            `efficientnet_b7`, `efficientnet_v2_s`, `_m`, `_l`).
        in_channels: channels of the image.
        library: `timm` or `torchvision`.
        options: passed to `timm.create_model` or to torchvision's constructor, e.g. `drop_path_rate`
            (`stochastic_depth_prob` in torchvision).

    Attributes:
        channels: channels of the feature map.

    Raises:
        ConfigError: an unknown network, or options that it does not take.

    Example:
        >>> import torch
        >>> from seewhy.nets.classifiers.planar_features import PlanarFeatures
        >>> net = PlanarFeatures("test_efficientnet", in_channels=1)
        >>> net(torch.rand(1, 1, 64, 64)).shape[1] == net.channels
        True
    """

    def __init__(self, name: str, *, in_channels: int, library: str = "timm", **options: Any) -> None:
        super().__init__()
        check_choice(library, LIBRARIES, "library")
        self.name, self.library = name, library
        build = _build_timm if library == "timm" else _build_torchvision
        self.net, self.channels = build(name, in_channels, options)
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).upper().endswith("NHWC")
        # The forward of torchvision's networks pools; timm's networks are built without pooling.
        self._path = "" if library == "timm" else "features"

    @property
    def stages(self) -> nn.Module:
        """The submodule of `net` that returns the map; its children run in order."""
        return self.net.get_submodule(self._path)

    def forward(self, image: ImageBatch) -> Tensor:
        """Compute features [B, channels, h, w] of images [B, C, H, W]."""
        features = cast(Tensor, self.stages(image))
        if features.ndim != 4:
            raise ConfigError(
                f"{self.name} returns features {tuple(features.shape)}; expected a map [B, C, h, w]: "
                "choose a convolutional network"
            )
        return features.permute(0, 3, 1, 2) if self.channels_last else features


def _build_timm(name: str, in_channels: int, options: dict[str, Any]) -> tuple[Any, int]:
    if not timm.is_model(name):
        raise ConfigError(f"timm has no network {name!r}; {nearest(name, timm.list_models())}")
    try:
        net = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=0, global_pool="", **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"timm does not build {name!r} with {options}: {error}") from error
    # In networks with a layer between map and pooling (MobileNetV3), the map is wider than `num_features`.
    return net, int(getattr(net, "head_hidden_size", None) or net.num_features)


def _build_torchvision(name: str, in_channels: int, options: dict[str, Any]) -> tuple[Any, int]:
    names = [model for model in torchvision.models.list_models() if model.startswith("efficientnet")]
    if name not in names:
        raise ConfigError(f"torchvision has no EfficientNet {name!r}; {nearest(name, names)}")
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
