"""Read a MONAI bundle: network, weights, and what a prediction of volumes needs to know."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from seewhy.errors import CheckpointError, nearest
from seewhy.interop.monai_bundle.config import (
    ZYX,
    BundleConfig,
    Preprocessing,
    find_config,
    read_metadata,
    read_preprocessing,
)
from seewhy.interop.network_size import limit_network
from seewhy.interop.nnunet.network import Transposed
from seewhy.interop.weights import load_network
from seewhy.io.atomic import file_sha256

__all__ = ["NETWORKS", "BundleModel", "build_bundle_network", "read_bundle"]

CLASSIFIERS = ("DenseNet",)
"""Beginnings of the names of networks whose output is not a volume."""
NETWORKS = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet", "DenseNet121", "DenseNet169", "DenseNet201",
    "DynUNet", "SegResNet", "SegResNetDS", "SwinUNETR", "UNETR", "UNet", "VNet",
)  # fmt: skip
"""Classes of `monai.networks.nets` that a bundle may name; those that fetch weights do so only when asked."""
FETCHING = ("pretrained",)
"""Arguments by which a network would fetch weights from elsewhere."""
BUILD_ERRORS = (
    *(TypeError, ValueError, AssertionError, IndexError, KeyError, AttributeError, RuntimeError),
    *(ZeroDivisionError, OverflowError, MemoryError, NotImplementedError),
)
"""Errors of the networks for options of wrong types or sizes."""


@dataclass(frozen=True)
class BundleModel:
    """A bundle, as the volume engine needs it.

    Attributes:
        network: from [B, C, Z, Y, X] to logits.
        definition: class of the network and its arguments.
        patch: voxels along Z, Y and X; None if the bundle states none.
        spacing: millimetres along Z, Y and X in training; None if unknown.
        normalization: per channel; None if `problem`.
        problem: why the preprocessing is not known.
        orientation: directions of the axes that the bundle turns images to; None leaves them as stored.
        channels: of the input.
        regions: whether output channels are regions with a sigmoid each.
        classes: names of the output channels.
        sha256: of weights and configuration.
    """

    network: nn.Module
    definition: dict[str, Any]
    patch: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    normalization: list[dict[str, Any]] | None
    problem: str
    orientation: str | None
    channels: int
    regions: bool
    classes: tuple[str, ...]
    sha256: str


def read_bundle(folder: str | Path) -> BundleModel:
    """Read a bundle for the volume engine.

    The configuration is data: `network_def` is built from a fixed list of classes with plain arguments, references are
    looked up, and expressions are never evaluated. Weights are read from `models/model.pt` (or `.safetensors`) with
    `weights_only=True`; TorchScript (`model.ts`) is a program and is not loaded.

    Args:
        folder: with `configs` and `models`.

    Raises:
        CheckpointError: no bundle, a network that may not be built or is larger than its weights, weights of another
            network, a classifier.
    """
    root = Path(folder)
    metadata = read_metadata(root)
    config = BundleConfig(find_config(root), metadata)
    with limit_network(_find_weights(root), where=str(config.file)):
        network, definition = build_bundle_network(config)
    name = definition["_target_"].rpartition(".")[2]
    if name.startswith(CLASSIFIERS) or definition.get("spatial_dims", 3) != 3:
        raise CheckpointError(f"{root}: {name} gives no volumes; a bundle for volumes has a segmentation network in 3D")
    weights = _find_weights(root)
    load_network(network, weights)
    channels = int(definition.get("in_channels", 1))
    read = read_preprocessing(config, channels=channels)
    known = read if isinstance(read, Preprocessing) else None
    order = (2, 1, 0) if known is None else known.order
    output = _find_output(metadata)
    return BundleModel(
        network=network if order == ZYX else Transposed(network, order=order),
        definition=definition,
        patch=_find_patch(config, metadata, order),
        spacing=None if known is None else known.spacing,
        normalization=None if known is None else [dict(known.normalization) for _ in range(channels)],
        problem="" if known is not None else str(read),
        orientation=None if known is None else known.orientation,
        channels=channels,
        regions=_has_sigmoid(config),
        classes=output,
        sha256=hashlib.sha256((file_sha256(weights) + file_sha256(config.file)).encode()).hexdigest(),
    )


def _find_weights(root: Path) -> Path:
    files = [root / "models" / name for name in ("model.pt", "model.safetensors", "model.pth")]
    if found := [file for file in files if file.is_file()]:
        return found[0]
    script = " (model.ts is a program, which is not loaded)" if (root / "models" / "model.ts").is_file() else ""
    raise CheckpointError(f"{root} has no models/model.pt{script}; save the network's state_dict there")


def _find_patch(config: BundleConfig, metadata: dict[str, Any], order: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Window of the inferer, or the input's size in the metadata, along Z, Y and X."""
    inferer = config.get("inferer")
    sizes: Any = None
    if isinstance(inferer, dict) and "roi_size" in inferer:
        try:
            sizes = config.resolve(inferer["roi_size"], "inferer#roi_size")
        except CheckpointError:
            sizes = None  # an expression; the metadata may state the size
    if not _is_size(sizes):
        sizes = _entry(metadata, "network_data_format", "inputs", "image", "spatial_shape")
    if not _is_size(sizes):
        return None
    z, y, x = (int(sizes[order.index(axis)]) for axis in range(3))
    return z, y, x


def _is_size(sizes: Any) -> bool:
    return isinstance(sizes, list) and len(sizes) == 3 and all(type(size) is int and size > 0 for size in sizes)


def _find_output(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Names of the output channels; empty if the metadata has none."""
    named = _entry(metadata, "network_data_format", "outputs", "pred", "channel_def")
    if not isinstance(named, dict) or set(named) != {str(number) for number in range(len(named))}:
        return ()
    return tuple(str(named[str(number)]) for number in range(len(named)))


def _entry(content: Any, *path: str) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _has_sigmoid(config: BundleConfig) -> bool:
    """Whether the postprocessing applies a sigmoid to each channel."""
    node = config.get("postprocessing")
    transforms = node.get("transforms", []) if isinstance(node, dict) else []
    return any(isinstance(one, dict) and one.get("sigmoid") is True for one in transforms)


# -- network --------------------------------------------------------------------------------------------------


def build_bundle_network(config: BundleConfig) -> tuple[nn.Module, dict[str, Any]]:
    """Build `network_def` of a bundle, without weights.

    Args:
        config: of the bundle.

    Returns:
        The network, and its class and arguments as plain data.

    Raises:
        CheckpointError: another class than those of `NETWORKS`, an argument that is not a plain value or that the class
            does not have, or one that the class refuses.
    """
    from monai.networks import nets

    key = next((key for key in ("network_def", "network", "net") if isinstance(config.get(key), dict)), None)
    if key is None:
        written = config.get("network_def")
        if written is not None:
            raise config.refuse("network_def", written, "is not a network of MONAI by its name and arguments")
        raise CheckpointError(f"{config.file} has no network_def with a _target_ and its arguments")
    node = dict(config.get(key))
    target = str(node.get("_target_"))
    package, _, name = target.rpartition(".")
    if name not in NETWORKS or not (
        package in ("", "monai.networks.nets") or package.startswith("monai.networks.nets.")
    ):
        raise config.refuse(f"{key}#_target_", target, f"is not a network that may be built; {nearest(name, NETWORKS)}")
    arguments = {one: config.resolve(value, f"{key}#{one}") for one, value in node.items() if not one.startswith("_")}
    for one, value in node.items():
        if one.startswith("_") and one not in ("_target_", "_desc_"):
            raise config.refuse(f"{key}#{one}", value, "is not supported; leave it out")
    for one, value in arguments.items():
        if one in FETCHING and value:
            raise config.refuse(f"{key}#{one}", value, "would fetch weights from elsewhere; set it to false")
        if "_target_" in str(value):
            raise config.refuse(f"{key}#{one}", node[one], "builds an object; only plain values are read")
    kind = getattr(nets, name)
    parameters = inspect.signature(kind).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [one for one in arguments if one not in parameters and not open_ended]
    if unknown:
        raise config.refuse(
            f"{key}#{unknown[0]}", node[unknown[0]], f"is not an argument of {name}; {nearest(unknown[0], parameters)}"
        )
    try:
        network: nn.Module = kind(**arguments)
    except BUILD_ERRORS as error:
        raise CheckpointError(f"{config.file}: {name} cannot be built from {key} ({error})") from error
    return network.eval(), {"_target_": f"monai.networks.nets.{name}", **_to_lists(arguments)}


def _to_lists(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}
