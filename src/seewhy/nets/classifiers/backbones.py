"""Backbones by name, cut before their pooling: 2D networks of timm and torchvision, and 3D networks of MONAI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import timm
import torchvision
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.nets.encoders.base import is_channels_last
from seewhy.options import check_choice
from seewhy.types import ImageBatch

__all__ = ["PlanarFeatures", "SpatialFeatures", "load_timm_weights"]


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
        >>> from seewhy.nets.classifiers.backbones import PlanarFeatures
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
        self.channels_last = is_channels_last(self.net)
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


RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
DENSENETS = ("densenet121", "densenet169", "densenet201", "densenet264")
EFFICIENTNETS = tuple(f"efficientnet_b{size}" for size in range(9))


class SpatialFeatures(nn.Module):
    """Last feature map of a 3D network of MONAI, with random weights.

    Parameters keep the names of MONAI under `net`.

    Args:
        name: `resnet10` … `resnet200`, `densenet121` … `densenet264`, `efficientnet_b0` … `efficientnet_b8`; or
            `resnet` and `densenet` with widths and depths as options.
        in_channels: channels of the volume.
        options: options of MONAI's class, e.g. `no_max_pool`, `block_inplanes`, `growth_rate`, `norm`.

    Attributes:
        channels: channels of the feature map.

    Raises:
        ConfigError: an unknown network, or options that it does not take.

    Example:
        >>> import torch
        >>> from seewhy.nets.classifiers.backbones import SpatialFeatures
        >>> net = SpatialFeatures("resnet", layers=[1, 1, 1, 1], block_inplanes=[4, 8, 16, 32])
        >>> net.channels, net(torch.rand(1, 1, 16, 32, 32)).shape
        (32, torch.Size([1, 32, 1, 2, 2]))
    """

    def __init__(self, name: str, *, in_channels: int = 1, **options: Any) -> None:
        super().__init__()
        self.name = name
        build = _find_builder(name)
        try:
            self.net, self.channels, self._map = build(name, in_channels, options)
        except (TypeError, ValueError, AssertionError, IndexError) as error:
            raise ConfigError(f"MONAI does not build {name!r} with {options}: {error}") from error

    def forward(self, volume: Tensor) -> Tensor:
        """Compute features [B, channels, d, h, w] of volumes [B, C, D, H, W]."""
        return self._map(self.net, volume)


Built = tuple[Any, int, Callable[[Any, Tensor], Tensor]]


def _find_builder(name: str) -> Callable[[str, int, dict[str, Any]], Built]:
    for names, build in (
        (("resnet", *RESNETS), _resnet),
        (("densenet", *DENSENETS), _densenet),
        (EFFICIENTNETS, _efficientnet),
    ):
        if name in names:
            return build
    valid = ["resnet", "densenet", *RESNETS, *DENSENETS, *EFFICIENTNETS]
    raise ConfigError(f"unknown 3D network {name!r}; {nearest(name, valid)}")


def _resnet(name: str, in_channels: int, options: dict[str, Any]) -> Built:
    from monai.networks import nets  # slow to import, and only volumes need it

    if name == "resnet":
        factory, options = nets.ResNet, {"block": "basic", **options}
    else:
        factory = getattr(nets, name)
    net = factory(spatial_dims=3, n_input_channels=in_channels, num_classes=1, **options)
    width = int(net.fc.in_features)
    net.fc = None
    return net, width, _resnet_map


def _resnet_map(net: Any, volume: Tensor) -> Tensor:
    """Compute the map that MONAI's ResNet pools; its own forward flattens the map."""
    x = net.act(net.bn1(net.conv1(volume)))
    if not net.no_max_pool:
        x = net.maxpool(x)
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def _densenet(name: str, in_channels: int, options: dict[str, Any]) -> Built:
    from monai.networks import nets

    factory = nets.DenseNet if name == "densenet" else getattr(nets, name.replace("densenet", "DenseNet"))
    net = factory(spatial_dims=3, in_channels=in_channels, out_channels=1, **options)
    width = int(net.class_layers.out.in_features)
    net.class_layers = nn.Sequential(net.class_layers.relu)
    return net, width, lambda net, volume: net(volume)


def _efficientnet(name: str, in_channels: int, options: dict[str, Any]) -> Built:
    from monai.networks import nets

    settings: dict[str, Any] = {"spatial_dims": 3, "in_channels": in_channels, "num_classes": 1, **options}
    net = nets.EfficientNetBN(name.replace("_", "-"), pretrained=False, **settings)
    width = int(net._fc.in_features)
    net._fc = nn.Identity()
    return net, width, _efficientnet_map


def _efficientnet_map(net: Any, volume: Tensor) -> Tensor:
    """Compute the map that MONAI's EfficientNet pools; its own forward flattens the map."""
    x = net._swish(net._bn0(net._conv_stem(net._conv_stem_padding(volume))))
    x = net._blocks(x)
    return net._swish(net._bn1(net._conv_head(net._conv_head_padding(x))))
