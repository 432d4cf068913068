"""Build the network that nnU-Net's plans describe, from a fixed list of classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from seewhy.errors import CheckpointError, nearest

__all__ = ["PlaneByPlane", "Transposed", "build_network", "old_architecture"]

NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
"""Classes of `dynamic_network_architectures.architectures.unet` that plans may name."""
MODULES = (
    *("Conv1d", "Conv2d", "Conv3d", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Identity"),
    *("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"),
    *("LeakyReLU", "ReLU", "ReLU6", "ELU", "GELU", "SiLU", "PReLU", "Mish"),
)
"""Classes of `torch.nn` that plans may name as parts."""
BLOCKS = ("BasicBlockD", "BottleneckD")
"""Classes of `dynamic_network_architectures.building_blocks.residual` that plans may name."""


BUILD_ERRORS = (
    *(TypeError, ValueError, AssertionError, IndexError, KeyError, AttributeError, RuntimeError),
    *(ZeroDivisionError, OverflowError, MemoryError),
)
"""Errors of the networks for options of wrong types or sizes."""


def build_network(architecture: Mapping[str, Any], *, channels: int, heads: int, where: str) -> nn.Module:
    """Build the network of one configuration, without weights.

    Names are looked up in fixed lists; nothing else is imported.

    Args:
        architecture: `architecture` of the configuration.
        channels: of the input.
        heads: of the output.
        where: for messages.

    Raises:
        CheckpointError: an unknown class or option, or the package is not installed.
    """
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise CheckpointError(
            f"{where}: nnU-Net's networks need another package ({error}); pip install 'seewhy[nnunet]'"
        ) from error
    full = str(architecture.get("network_class_name"))
    package, _, name = full.rpartition(".")
    # Plans of older versions name other modules, e.g. architectures.residual_unet; the class name is the same.
    if name not in NETWORKS or not package.startswith("dynamic_network_architectures."):
        raise CheckpointError(
            f"{where}: plans name the network {full!r}, which is not allowed; {nearest(name, NETWORKS)}"
        )
    kind = getattr(unet, name)
    options = dict(architecture.get("arch_kwargs", {}))
    for key in architecture.get("_kw_requires_import", ()):
        if options.get(key) is not None:
            options[key] = _find_class(str(options[key]), key, where)
    parameters = inspect.signature(kind).parameters
    unknown = [key for key in options if key not in parameters or key in ("input_channels", "num_classes")]
    if unknown:
        raise CheckpointError(
            f"{where}: unknown option {unknown[0]!r} of {name} in the plans; {nearest(unknown[0], parameters)}"
        )
    options["deep_supervision"] = False
    try:
        network: nn.Module = kind(input_channels=channels, num_classes=heads, **options)
    except BUILD_ERRORS as error:
        raise CheckpointError(f"{where}: {name} cannot be built from its plans ({error})") from error
    return network


def old_architecture(configuration: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Create `architecture` for a configuration written before nnU-Net 2.4, which only contains numbers.

    Raises:
        CheckpointError: an unknown class, or missing numbers.
    """
    name = str(configuration.get("UNet_class_name"))
    if name not in NETWORKS:
        raise CheckpointError(
            f"{where}: plans name the network {name!r}, which is not allowed; {nearest(name, NETWORKS)}"
        )
    try:
        stages = len(configuration["n_conv_per_stage_encoder"])
        width, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
        encoder = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
        dimension = len(configuration["patch_size"])
        options = {
            "n_stages": stages,
            "features_per_stage": [min(width * 2**stage, most) for stage in range(stages)],
            "conv_op": f"torch.nn.Conv{dimension}d",
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            encoder: configuration["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
    except KeyError as error:
        raise CheckpointError(f"{where}: plans have neither an architecture nor {error}") from error
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": options,
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }


class Transposed(nn.Module):
    """Wraps a network that sees the axes in another order; inputs and outputs are Z, Y and X.

    Args:
        network: from [B, C, *] to [B, K, *] (or a list that starts with it).
        order: axes of (Z, Y, X) in the order in which the network sees them.
    """

    def __init__(self, network: nn.Module, *, order: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.forwards = (0, 1, *(2 + axis for axis in order))
        self.backwards = (0, 1, *(2 + list(order).index(axis) for axis in range(3)))

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, z, y, x] to [B, K, z, y, x]."""
        return _first_output(self.network(image.permute(self.forwards).contiguous())).permute(self.backwards)


class PlaneByPlane(nn.Module):
    """Applies a 2D network to all planes of a patch.

    Args:
        network: from [B, C, y, x] to [B, K, y, x] (or a list that starts with it).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, z, y, x] to [B, K, z, y, x]."""
        batch, channels, depth, *plane = image.shape
        planes = image.transpose(1, 2).reshape(batch * depth, channels, *plane)
        logits = _first_output(self.network(planes))
        return logits.reshape(batch, depth, *logits.shape[1:]).transpose(1, 2)


def _first_output(output: Any) -> Tensor:
    """Finest output of a network with deep supervision."""
    return output[0] if isinstance(output, list | tuple) else output


def _find_class(full: str, key: str, where: str) -> Any:
    """Find the class that plans name as part of a network."""
    package, _, name = full.rpartition(".")
    if name in MODULES and (package == "torch.nn" or package.startswith("torch.nn.modules")):
        return getattr(nn, name)
    if name in BLOCKS and package.startswith("dynamic_network_architectures.building_blocks"):
        from dynamic_network_architectures.building_blocks import residual

        return getattr(residual, name)
    raise CheckpointError(
        f"{where}: plans name {full!r} as {key}, which is not allowed; {nearest(name, MODULES + BLOCKS)}"
    )
