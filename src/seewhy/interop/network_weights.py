"""Load weights from a file into a network, strictly, and without the prefixes of wrappers in names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from seewhy.errors import CheckpointError
from seewhy.interop.tensors import Mismatch, check_finite_weights, read_tensors

__all__ = ["fill_network", "load_network"]

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile add to every name."""
SLOTS = ("network.", "net.", "model.")
"""Prefixes that a LightningModule adds to the names of its network."""


def load_network(network: nn.Module, path: str | Path) -> None:
    """Load a `.pth`, `.pt`, `.ckpt` or `.safetensors` file into a network, in place.

    Raises:
        CheckpointError: no such file, unsafe to load, or of another network.
    """
    fill_network(network, read_tensors(path), where=str(path))


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load tensors into a network strictly, in place.

    The prefixes of wrappers are removed. A name may be missing if another name of the same tensor is given (nnU-Net's
    networks hold each convolution under several names, safetensors keeps one of them).

    Args:
        network: to fill.
        tensors: names → tensors.
        where: origin of the tensors, for messages.

    Raises:
        CheckpointError: names or shapes differ, or weights are not finite.
    """
    expected = network.state_dict()
    state = _strip_prefixes(dict(tensors), expected)
    given = {expected[name].data_ptr() for name in state if name in expected}
    needed = {name: tensor for name, tensor in expected.items() if name in state or tensor.data_ptr() not in given}
    mismatch = Mismatch(state, needed)
    if mismatch:
        text = "; ".join(line.strip() for line in mismatch.describe(count=2).splitlines())
        raise CheckpointError(f"{where}: weights of another network than this {type(network).__name__}: {text}")
    check_finite_weights(network, state, where)
    network.load_state_dict(state, strict=False)


def _strip_prefixes(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers in any order, and select the contents of a slot if its names fit."""
    while tensors and (prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in tensors)), "")):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if any(name in expected for name in tensors):
        return tensors
    for prefix in SLOTS:
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if any(name in expected for name in inside):
            return inside
        if inside and all(name.startswith(WRAPPERS) for name in inside):
            return _strip_prefixes(inside, expected)
    return tensors
