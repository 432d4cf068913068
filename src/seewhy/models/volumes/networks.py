"""MONAI's segmentation networks by name, each with its options passed through and what it asks of a patch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from torch import nn

from seewhy.errors import ConfigError, nearest
from seewhy.options import call_with_options

__all__ = ["NETWORKS", "VolumeNetwork", "build_volume_network"]

Steps = tuple[int, int, int]


@dataclass(frozen=True)
class VolumeNetwork:
    """A network and what must be known of it.

    Attributes:
        module: from [B, C, Z, Y, X] to logits [B, K, Z, Y, X]; in training perhaps to several of them.
        steps: a patch's sides along Z, Y and X must be multiples of these.
        layer: dotted name of its innermost part, whose activations a class activation map is made of.
    """

    module: nn.Module
    steps: Steps
    layer: str


def build_volume_network(
    options: Mapping[str, Any], *, in_channels: int, out_channels: int, where: str = "model.network"
) -> VolumeNetwork:
    """The network `options["name"]` with its other options, those of MONAI's class.

    Args:
        options: `name`: dynunet, unet, segresnet or swinunetr; of dynunet `filters` is enough, or `strides`.
        in_channels: C.
        out_channels: K.
        where: dotted name of the options, for messages.

    Raises:
        ConfigError: no such network, an option that it does not have, or one that does not fit.
    """
    given = dict(options)
    name = str(given.pop("name", ""))
    if name not in NETWORKS:
        raise ConfigError(f"{where}.name={name!r} is unknown; {nearest(name, NETWORKS)}")
    try:
        return NETWORKS[name](given, {"in_channels": in_channels, "out_channels": out_channels}, where)
    except (ValueError, TypeError, AssertionError, IndexError) as error:
        raise ConfigError(f"{where}: {name} does not take {given}: {error}") from error


def _unet(options: dict[str, Any], ends: dict[str, int], where: str) -> VolumeNetwork:
    module = _filled(UNet, options, where, spatial_dims=3, **ends)
    depth = len(module.channels) - 1
    return VolumeNetwork(module, _product(module.strides), ".".join(["model", *["1.submodule"] * depth]))


def _dynunet(options: dict[str, Any], ends: dict[str, int], where: str) -> VolumeNetwork:
    """Kernels of 3 and strides of 2 from level to level, unless they are given."""
    levels = len(options.get("strides") or options.get("filters") or ())
    if levels < 3:
        raise ConfigError(f"{where}: dynunet needs filters (or strides) for three levels at least, e.g. [32, 64, 128]")
    strides = options.setdefault("strides", [1, *[2] * (levels - 1)])
    options.setdefault("kernel_size", [3] * levels)
    options.setdefault("upsample_kernel_size", strides[1:])
    if options.get("deep_supervision"):
        options.setdefault("deep_supr_num", max(1, levels - 2))
    return VolumeNetwork(_filled(DynUNet, options, where, spatial_dims=3, **ends), _product(strides), "bottleneck")


def _segresnet(options: dict[str, Any], ends: dict[str, int], where: str) -> VolumeNetwork:
    module = _filled(SegResNet, options, where, spatial_dims=3, **ends)
    halvings = len(module.blocks_down) - 1
    step = 2**halvings
    return VolumeNetwork(module, (step, step, step), f"down_layers.{halvings}")


def _swinunetr(options: dict[str, Any], ends: dict[str, int], where: str) -> VolumeNetwork:
    module = _filled(SwinUNETR, options, where, spatial_dims=3, **ends)
    step = int(options.get("patch_size", 2)) ** 5
    return VolumeNetwork(module, (step, step, step), "encoder10")


Builder = Callable[[dict[str, Any], dict[str, int], str], VolumeNetwork]
NETWORKS: dict[str, Builder] = {
    "dynunet": _dynunet,
    "unet": _unet,
    "segresnet": _segresnet,
    "swinunetr": _swinunetr,
}


def _filled(network: Callable[..., nn.Module], options: Mapping[str, Any], where: str, **fixed: Any) -> Any:
    """The network; lists become tuples where MONAI tells the two apart, e.g. in `norm: [INSTANCE, {affine: true}]`."""
    missing = [
        name
        for name, parameter in inspect.signature(network).parameters.items()
        if parameter.default is parameter.empty and name not in options and name not in fixed
    ]
    if missing:
        raise ConfigError(f"{where} must give {', '.join(missing)}")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return call_with_options(network, plain, where, **fixed)


def _product(strides: Sequence[int | Sequence[int]]) -> Steps:
    """Factor between the finest and the coarsest grid along Z, Y and X."""
    steps = [(one, one, one) if isinstance(one, int) else tuple(one) for one in strides]
    z, y, x = (math.prod(axis) for axis in zip(*steps, strict=True))
    return z, y, x
