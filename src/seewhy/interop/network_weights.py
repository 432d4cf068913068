"""Weights from a file into a network, strictly, whatever wrapped the network when it was saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from seewhy.errors import CheckpointError
from seewhy.interop.tensors import Mismatch, read_tensors

__all__ = ["load_network", "put_weights"]

WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""
SLOTS = ("network.", "net.", "model.")
"""What a LightningModule puts before the names of its network."""


def load_network(network: nn.Module, path: str | Path) -> None:
    """Load a `.pth`, `.pt`, `.ckpt` or `.safetensors` file into a network, in place.

    Raises:
        CheckpointError: no such file, unsafe to load, or of another network.
    """
    put_weights(network, read_tensors(path), where=str(path))


def put_weights(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Put tensors into a network strictly, in place.

    The names that wrappers add are taken off. A name may be missing where it stands for a tensor that another name
    has brought (nnU-Net's networks hold each convolution under several names, safetensors keeps one of them).

    Args:
        network: to fill.
        tensors: names → tensors.
        where: for messages.

    Raises:
        CheckpointError: names or shapes differ.
    """
    expected = network.state_dict()
    found = _unwrapped(dict(tensors), expected)
    brought = {expected[name].data_ptr() for name in found if name in expected}
    needed = {name: own for name, own in expected.items() if name in found or own.data_ptr() not in brought}
    mismatch = Mismatch(found, needed)
    if mismatch:
        text = "; ".join(line.strip() for line in mismatch.describe(count=2).splitlines())
        raise CheckpointError(f"{where}: weights of another network than this {type(network).__name__}: {text}")
    network.load_state_dict(found, strict=False)


def _unwrapped(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of wrappers, anywhere at their start; and of a slot, where only its content fits."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in WRAPPERS:
            if found and all(name.startswith(prefix) for name in found):
                found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
                stripped = True
    if any(name in expected for name in found):
        return found
    for prefix in SLOTS:
        inside = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
        if any(name in expected for name in inside):
            return inside
        if inside and all(name.startswith(WRAPPERS) for name in inside):
            return _unwrapped(inside, expected)
    return found
