"""Build the network that a MONAI bundle names, from a fixed list of classes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from seewhy.errors import CheckpointError, nearest
from seewhy.interop.monai_bundle.config import BundleConfig

__all__ = ["NETWORKS", "build_bundle_network"]

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
