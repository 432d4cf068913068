"""Segmentation networks of MONAI by name, and class scores of a region for explainers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.explain.explained_model import Explainable
from seewhy.options import call_with_options

__all__ = ["NETWORKS", "RegionScores", "VolumeNetwork", "build_volume_network"]

Steps = tuple[int, int, int]


@dataclass(frozen=True)
class VolumeNetwork:
    """A network, its constraints on a patch, and its innermost layer.

    Attributes:
        module: from [B, C, Z, Y, X] to logits [B, K, Z, Y, X]; in training perhaps to several of them.
        steps: a patch's sides along Z, Y and X must be multiples of these.
        layer: dotted name of its innermost part, whose activations a class activation map is made of.
        arguments: options of the module's class, as plain data.
    """

    module: nn.Module
    steps: Steps
    layer: str
    arguments: Mapping[str, Any]


def build_volume_network(options: Mapping[str, Any], *, in_channels: int, out_channels: int) -> VolumeNetwork:
    """Build the network `options["name"]`; the other options are those of MONAI's class.

    Args:
        options: `name`: dynunet, unet, segresnet or swinunetr; of dynunet `filters` is enough, or `strides`.
        in_channels: C.
        out_channels: K.

    Raises:
        ConfigError: unknown network or option, or an option that the network refuses.

    Example:
        >>> options = {"name": "unet", "channels": [4, 8], "strides": [2]}
        >>> network = build_volume_network(options, in_channels=1, out_channels=2)
        >>> network.steps, network.layer
        ((2, 2, 2), 'model.1.submodule')
    """
    given = dict(options)
    name = str(given.pop("name", ""))
    if name not in NETWORKS:
        raise ConfigError(f"model.network.name={name!r} is unknown; {nearest(name, NETWORKS)}")
    try:
        return NETWORKS[name](given, {"in_channels": in_channels, "out_channels": out_channels})
    except (ValueError, TypeError, AssertionError, IndexError) as error:
        raise ConfigError(f"model.network: {name} does not take {given}: {error}") from error


def _unet(options: dict[str, Any], ends: dict[str, int]) -> VolumeNetwork:
    module = _build_network(UNet, options, spatial_dims=3, **ends)
    layer = ".".join(["model", *["1.submodule"] * (len(module.channels) - 1)])
    return VolumeNetwork(module, _multiply_strides(module.strides), layer, _arguments(options, ends))


def _dynunet(options: dict[str, Any], ends: dict[str, int]) -> VolumeNetwork:
    """A DynUNet, by default with kernels of 3 and strides of 2 from level to level."""
    levels = len(options.get("strides") or options.get("filters") or ())
    if levels < 3:
        raise ConfigError(
            "model.network: dynunet needs filters (or strides) for three levels at least, e.g. [32, 64, 128]"
        )
    strides = options.setdefault("strides", [1, *[2] * (levels - 1)])
    options.setdefault("kernel_size", [3] * levels)
    options.setdefault("upsample_kernel_size", strides[1:])
    if options.get("deep_supervision"):
        options.setdefault("deep_supr_num", max(1, levels - 2))
    module = _build_network(DynUNet, options, spatial_dims=3, **ends)
    return VolumeNetwork(module, _multiply_strides(strides), "bottleneck", _arguments(options, ends))


def _segresnet(options: dict[str, Any], ends: dict[str, int]) -> VolumeNetwork:
    module = _build_network(SegResNet, options, spatial_dims=3, **ends)
    halvings = len(module.blocks_down) - 1
    step = 2**halvings
    return VolumeNetwork(module, (step, step, step), f"down_layers.{halvings}", _arguments(options, ends))


def _swinunetr(options: dict[str, Any], ends: dict[str, int]) -> VolumeNetwork:
    module = _build_network(SwinUNETR, options, spatial_dims=3, **ends)
    step = int(options.get("patch_size", 2)) ** 5
    return VolumeNetwork(module, (step, step, step), "encoder10", _arguments(options, ends))


Builder = Callable[[dict[str, Any], dict[str, int]], VolumeNetwork]
NETWORKS: dict[str, Builder] = {
    "dynunet": _dynunet,
    "unet": _unet,
    "segresnet": _segresnet,
    "swinunetr": _swinunetr,
}


def _build_network(network: Callable[..., nn.Module], options: Mapping[str, Any], **fixed: Any) -> Any:
    """Build the network; lists become tuples, which MONAI requires e.g. in `norm: [INSTANCE, {affine: true}]`."""
    missing = [
        name
        for name, parameter in inspect.signature(network).parameters.items()
        if parameter.default is parameter.empty and name not in options and name not in fixed
    ]
    if missing:
        raise ConfigError(f"model.network must give {', '.join(missing)}")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return call_with_options(network, plain, "model.network", **fixed)


def _arguments(options: Mapping[str, Any], ends: Mapping[str, int]) -> dict[str, Any]:
    """All arguments of a network's class."""
    return {"spatial_dims": 3, **ends, **options}


def _multiply_strides(strides: Sequence[int | Sequence[int]]) -> Steps:
    """Factor between the finest and the coarsest grid along Z, Y and X."""
    steps = [(item, item, item) if isinstance(item, int) else tuple(item) for item in strides]
    z, y, x = (math.prod(axis) for axis in zip(*steps, strict=True))
    return z, y, x


class RegionScores(nn.Module):
    """Mean logit of each class over chosen voxels (Seg-Grad-CAM, Vinogradova 2020, equation 2, as a mean).

    A mean instead of the paper's sum, so that maps of regions of different sizes compare; it is the same map times
    the number of voxels.

    Args:
        network: from [B, C, Z, Y, X] to logits [B, K, Z, Y, X]; of several outputs the first counts.
        voxels: [Z, Y, X] bool, over which the logits are averaged.
        classes: names of the K channels.
        layer: dotted name, inside the network, of the layer for class activation maps; None where it is unknown and
            must be given to the explainer.
        multi_label: each channel has a separate sigmoid.

    Raises:
        ConfigError: a region without voxels.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> region = torch.zeros(4, 4, 4, dtype=torch.bool)
        >>> region[1:3, 1:3, 1:3] = True
        >>> scores = RegionScores(nn.Conv3d(1, 2, 1), voxels=region, classes=["background", "lesion"])
        >>> scores(torch.zeros(1, 1, 4, 4, 4)).shape
        torch.Size([1, 2])
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
        """One input, the image, with the network's innermost layer."""
        layers = {} if self.layer is None else {"image": f"network.{self.layer}"}
        return Explainable(layers=layers, classes=self.classes, multi_label=self.multi_label)


def first_output(output: Any) -> Tensor:
    """Logits at full size of a network's output; deep supervision returns them first."""
    while isinstance(output, (list, tuple)):
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 5:
        returned = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"the network returned {returned}; expected logits [B, K, Z, Y, X]")
    return output
