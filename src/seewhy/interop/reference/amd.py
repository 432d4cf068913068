"""Checkpoints of the AMD grading reference: four en-face images, a torchvision EfficientNet each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seewhy.errors import CheckpointError
from seewhy.interop.reference.efficientnets import closest_efficientnet
from seewhy.interop.tensors import Mismatch, plain_data, read_file, state_dict_of
from seewhy.nets.classifiers.multi_input import MultiInputClassifier

__all__ = ["AMDCheckpoint", "read_amd"]

REQUIRED = ("out.to3.weight", "out.backbone1.0.0.weight", "out.classifier.0.weight", "out.classifier.3.weight")


@dataclass(frozen=True)
class AMDCheckpoint:
    """What a reference checkpoint holds and what can be told from it.

    Attributes:
        state_dict: of `AMDGrading` with stem=conv1x1, without its `temperature`.
        name: of the networks in torchvision, e.g. `efficientnet_b0`, told from shapes.
        inputs: names of the images, in order.
        hidden: width of the head's hidden layer, 512 in the reference.
        outputs: class scores.
        epoch: that it was saved after; None where the file does not say.
        config: what of its hyperparameters is plain data, e.g. its `DataModule` and `NetModule` tables.
    """

    state_dict: dict[str, Tensor]
    name: str
    inputs: tuple[str, ...]
    hidden: int
    outputs: int
    epoch: int | None = None
    config: dict[str, Any] = field(default_factory=dict)


def read_amd(path: str | Path, *, inputs: Sequence[str] = ("mnv", "fluid", "ga", "drusen")) -> AMDCheckpoint:
    """Read a reference checkpoint strictly: every tensor there, none over, each of the right shape.

    The size of the networks is told from their shapes, since the reference's configuration may call a B0 B5.

    Args:
        path: a Lightning `.ckpt`; weights are read and nothing in it is run. Its hyperparameters may hold plain
            data, numbers of numpy and paths; other objects are refused and named.
        inputs: names of the images, in the order of `backbone1`, `backbone2`, ….

    Raises:
        CheckpointError: no such file, unsafe to load, or not a checkpoint of the reference's 2D model.
    """
    path = Path(path)
    content = read_file(path)
    found = state_dict_of(content, path)
    _check(path, found)
    name = closest_efficientnet(_backbone(found, 1))
    outputs, hidden = (int(found[f"out.classifier.{layer}.weight"].shape[0]) for layer in (3, 0))
    with torch.device("meta"):
        net = MultiInputClassifier(
            inputs=inputs,
            num_outputs=outputs,
            backbone={"name": name, "library": "torchvision"},
            stem="conv1x1",
            hidden=hidden,
        )
    theirs = {_theirs(key, inputs): key for key in net.state_dict()}
    mismatch = Mismatch(found, {_theirs(key, inputs): tensor for key, tensor in net.state_dict().items()})
    if mismatch:
        raise CheckpointError(
            f"{path}: not a checkpoint of the AMD reference with {len(inputs)} inputs ({', '.join(inputs)}) and "
            f"{name}, the most similar network:\n{mismatch.describe()}\n"
            "  → give the .ckpt that its training wrote, unchanged"
        )
    record = content if isinstance(content, Mapping) else {}
    epoch = record.get("epoch")
    return AMDCheckpoint(
        state_dict={f"net.{theirs[key]}": tensor for key, tensor in found.items()},
        name=name,
        inputs=tuple(inputs),
        hidden=hidden,
        outputs=outputs,
        epoch=epoch if isinstance(epoch, int) else None,
        config=plain_data(_hyperparameters(record)),
    )


def _check(path: Path, found: Mapping[str, Tensor]) -> None:
    absent = [name for name in REQUIRED if name not in found]
    if absent:
        three_d = any("_conv_stem" in name or name.startswith("out.backbone.") for name in found)
        hint = " It seems to be the reference's 3D model, which is not imported." if three_d else ""
        raise CheckpointError(
            f"{path}: not a checkpoint of the AMD reference's 2D model: no {', '.join(absent)} among its {len(found)} "
            f"tensors (first: {next(iter(found))}).{hint} Expected the .ckpt that its training writes"
        )
    flat = [name for name in REQUIRED if found[name].ndim != (2 if "classifier" in name else 4)]
    if flat:
        shapes = ", ".join(f"{name} {list(found[name].shape)}" for name in flat)
        raise CheckpointError(f"{path}: has the names of the AMD reference's model, but other shapes: {shapes}")


def _backbone(found: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Tensors of one backbone, by their names in torchvision's `features`."""
    prefix = f"out.backbone{number}."
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def _theirs(name: str, inputs: Sequence[str]) -> str:
    """The reference's name of one of our tensors."""
    places = {f"branches.{key}.net.features.": f"backbone{number}." for number, key in enumerate(inputs, 1)}
    for ours, theirs in {"stem.": "to3.", "head.": "classifier.", **places}.items():
        if name.startswith(ours):
            return f"out.{theirs}{name.removeprefix(ours)}"
    return name


def _hyperparameters(record: Mapping[str, Any]) -> Any:
    """The reference's configuration, which Lightning stores as the argument `config`."""
    found = record.get("hyper_parameters", {})
    return found.get("config", found) if isinstance(found, Mapping) else {}
