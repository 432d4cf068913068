"""Layouts of checkpoints of SA-CycleGAN-2.5D: find the networks in every layout that its scripts write or read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import CheckpointError, DataError
from seewhy.interop.tensors import list_foreign_tensors, read_file, to_plain_data
from seewhy.io.documents import read_json
from seewhy.io.npy import read_npz

__all__ = ["NETWORKS", "Networks", "read_networks"]

NETWORKS = ("G_A2B", "G_B2A", "D_A", "D_B")
WHOLE = ("model_state_dict", "global_model_state_dict", "state_dict", "model")
"""Keys of one state dict of all networks, or of a single unnamed generator."""
APART = {
    "G_A2B": ("generator_A2B_state_dict", "G_A2B_state_dict", "generator_A2B", "generator_AB", "G_A2B"),
    "G_B2A": ("generator_B2A_state_dict", "G_B2A_state_dict", "generator_B2A", "generator_BA", "G_B2A"),
    "D_A": ("discriminator_A_state_dict", "D_A_state_dict", "discriminator_A", "D_A"),
    "D_B": ("discriminator_B_state_dict", "D_B_state_dict", "discriminator_B", "D_B"),
}
"""Network → keys of its separate state dict."""
WRAPPERS = ("module", "_orig_mod")
"""Parts that DataParallel and torch.compile insert into names, at any place."""
RECORD = ("epoch", "round", "global_step", "best_val_ssim", "best_metric", "best_ssim", "config", "history")
FIRST = ("encoder_initial.slice_conv.1.weight", "initial.0.weight")
"""First tensor of a generator with attention, and of the baseline's generator."""

LFS = b"version https://git-lfs"
"""First bytes of the pointer files in a clone made without Git LFS."""


@dataclass(frozen=True)
class Networks:
    """Networks of a checkpoint under the reference's names.

    Attributes:
        tensors: network (see `NETWORKS`) → its state dict, without wrappers in names.
        complete: whether the layout holds all four networks, so that none may be missing.
        record: other contents as plain data.
        left_out: keys of tensors that were not read, e.g. the projections of PatchNCE.
    """

    tensors: dict[str, dict[str, Tensor]]
    complete: bool
    record: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_networks(path: Path, *, direction: str) -> Networks:
    """Find the networks in a `.pth` or `.npz` file; no code of the file is run.

    Args:
        path: of the file; an `.npz` may come with a `.json` of the same name.
        direction: `A2B` or `B2A`, of a single generator without a name.

    Raises:
        CheckpointError: no such file, unsafe to load, or no networks of SA-CycleGAN-2.5D in it.
    """
    if _is_pointer(path):
        raise CheckpointError(
            f"{path}: a pointer of Git LFS, not the weights themselves; fetch them (git lfs pull), or download the file"
        )
    content: Any
    if path.suffix == ".npz":
        content, record, left_out = _read_npz(path)
    else:
        content, record, left_out = read_file(path), {}, ()
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dict of networks, found {type(content).__name__}")
    record = record or {key: to_plain_data(content[key]) for key in RECORD if key in content}
    apart = {
        name: dict(next(content[key] for key in keys if isinstance(content.get(key), Mapping)))
        for name, keys in APART.items()
        if any(isinstance(content.get(key), Mapping) for key in keys)
    }
    if apart:
        networks = {name: _strip_wrappers(state, path, name) for name, state in apart.items()}
        return Networks(networks, complete=False, record=record, left_out=left_out)
    inside = next((content[key] for key in WHOLE if isinstance(content.get(key), Mapping)), content)
    tensors = _strip_wrappers(inside, path, "the state dict")
    if any(name in tensors for name in FIRST):
        return Networks({f"G_{direction}": tensors}, complete=False, record=record, left_out=left_out)
    return Networks(_split_networks(tensors, path), complete=True, record=record, left_out=left_out)


def _split_networks(tensors: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    """Split one state dict of all networks."""
    networks: dict[str, dict[str, Tensor]] = {name: {} for name in NETWORKS}
    others = []
    for key, tensor in tensors.items():
        network, _, name = key.partition(".")
        if network in networks:
            networks[network][name] = tensor
        else:
            others.append(key)
    if others or not any(networks.values()):
        raise CheckpointError(
            f"{path}: not a checkpoint of SA-CycleGAN-2.5D: {len(others)} of its {len(tensors)} tensors belong to "
            f"none of {', '.join(NETWORKS)} (first: {others[0] if others else 'none'}); expected a file that its "
            "training wrote, e.g. checkpoint_best.pth, or one of generator_A2B_state_dict and generator_B2A_state_dict"
        )
    return networks


def _strip_wrappers(state: Mapping[Any, Any], path: Path, where: str) -> dict[str, Tensor]:
    """Remove wrappers from the names of a state dict.

    Raises:
        CheckpointError: values that are not tensors, tensors that are no plain weights, or two of one name.
    """
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        what = f"{', '.join(others[:3])} are not tensors" if others else "it is empty"
        raise CheckpointError(
            f"{path}: expected names → tensors in {where}, but {what}; give a file that SA-CycleGAN-2.5D's training "
            "or export wrote"
        )
    if foreign := list_foreign_tensors({str(key): tensor for key, tensor in state.items()}):
        raise CheckpointError(f"{path}: {foreign[0]}; expected dense tensors of real numbers")
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = ".".join(step for step in str(key).split(".") if step not in WRAPPERS)
        if name in tensors:
            raise CheckpointError(f"{path}: {where} holds two tensors {name!r}, with and without module. or _orig_mod.")
        tensors[name] = tensor
    return tensors


def _read_npz(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]:
    """Read the tensors below `model/`, the record of the `.json` file, and the names of other arrays."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such weights file")
    model: dict[str, Tensor] = {}
    left_out = []
    try:
        for key, array in read_npz(path).items():
            group, _, name = key.partition("/")
            if group != "model" or not name:
                left_out.append(key)
                continue
            # Single numbers are stored as arrays of one value with this ending.
            scalar = name.endswith("::scalar")
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            model[name.removesuffix("::scalar")] = tensor.reshape(()) if scalar else tensor.reshape(array.shape)
    except (DataError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be read as arrays of numbers: {error}") from error
    return model, _read_sidecar(path.with_suffix(".json")), tuple(left_out)


def _is_pointer(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(LFS)) == LFS


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        record = read_json(path, Any)
    except DataError as error:
        raise CheckpointError(f"{error}; repair it or move it away") from error
    return dict(to_plain_data(record)) if isinstance(record, dict) else {}
