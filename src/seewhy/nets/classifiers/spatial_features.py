"""3D networks of MONAI by name, cut before their pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.networks import nets
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest

__all__ = ["SpatialFeatures"]

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
        >>> from seewhy.nets.classifiers.spatial_features import SpatialFeatures
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
    factory = nets.DenseNet if name == "densenet" else getattr(nets, name.replace("densenet", "DenseNet"))
    net = factory(spatial_dims=3, in_channels=in_channels, out_channels=1, **options)
    width = int(net.class_layers.out.in_features)
    net.class_layers = nn.Sequential(net.class_layers.relu)
    return net, width, lambda net, volume: net(volume)


def _efficientnet(name: str, in_channels: int, options: dict[str, Any]) -> Built:
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
