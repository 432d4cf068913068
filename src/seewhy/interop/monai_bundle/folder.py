"""Read a MONAI bundle: network, weights, and what a prediction of volumes needs to know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from seewhy.errors import CheckpointError
from seewhy.interop.monai_bundle.config import BundleConfig, find_config, read_metadata
from seewhy.interop.monai_bundle.network import build_bundle_network
from seewhy.interop.monai_bundle.preprocessing import ZYX, Preprocessing, read_preprocessing
from seewhy.interop.network_size import limit_network
from seewhy.interop.nnunet.network import Transposed
from seewhy.interop.weights import load_network
from seewhy.io.atomic import file_sha256

__all__ = ["BundleModel", "read_bundle"]

CLASSIFIERS = ("DenseNet",)
"""Beginnings of the names of networks whose output is not a volume."""


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
