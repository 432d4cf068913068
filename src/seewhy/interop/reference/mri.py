"""Checkpoints of the MRI saliency reference: HC against TLE from coronal slices as channels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seewhy.errors import CheckpointError
from seewhy.interop.reference.efficientnets import closest_efficientnet
from seewhy.interop.tensors import Mismatch, plain_data, read_file, state_dict_of
from seewhy.nets.classifiers.volume_views import ChannelView

__all__ = ["FIRST_SLICE", "MRICheckpoint", "read_mri", "read_parameters"]

FIRST_SLICE = 10
"""Number of the first slice that the reference cuts of a scan; the last follows from the number of channels."""
THEIRS = {"net.encoder.net.": "backbone.", "net.head.": "backbone.classifier.1."}
"""Beginning of a name in `MRIClassification` → in the reference."""


@dataclass(frozen=True)
class MRICheckpoint:
    """What a reference checkpoint holds and what can be told from it.

    Attributes:
        state_dict: of `MRIClassification` with view=channels, without its `temperature`.
        name: of the network in torchvision, e.g. `efficientnet_v2_l`, told from shapes.
        depth: slices that are the channels of the first convolution, 115 in the reference.
        outputs: class scores; 1 is one logit, as in the reference.
        epoch: that it was saved after; None where the file does not say.
        metrics: that its training script measured.
    """

    state_dict: dict[str, Tensor]
    name: str
    depth: int
    outputs: int
    epoch: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


def read_mri(path: str | Path) -> MRICheckpoint:
    """Read a reference checkpoint strictly: every tensor there, none over, each of the right shape.

    Args:
        path: `best_model.pth`; weights are read and nothing in it is run (numpy's numbers among its metrics are
            made, other objects are refused).

    Raises:
        CheckpointError: no such file, unsafe to load, or not a checkpoint of the reference.
    """
    path = Path(path)
    content = read_file(path)
    found = state_dict_of(content, path)
    stem, head = found.get("backbone.features.0.0.weight"), found.get("backbone.classifier.1.weight")
    if stem is None or head is None or stem.ndim != 4 or head.ndim != 2:
        raise CheckpointError(
            f"{path}: not a checkpoint of the MRI reference: backbone.features.0.0.weight and "
            f"backbone.classifier.1.weight must be among its {len(found)} tensors (first: {next(iter(found))}); "
            "expected the best_model.pth that its train.py writes"
        )
    depth, outputs = int(stem.shape[1]), int(head.shape[0])
    inside = "backbone.features."
    name = closest_efficientnet({k.removeprefix(inside): v for k, v in found.items() if k.startswith(inside)})
    with torch.device("meta"):
        net = ChannelView({"name": name, "library": "torchvision"}, depth=depth, outputs=outputs)
    ours = {_theirs(f"net.{key}"): f"net.{key}" for key in net.state_dict()}
    mismatch = Mismatch(found, {_theirs(f"net.{key}"): tensor for key, tensor in net.state_dict().items()})
    if mismatch:
        raise CheckpointError(
            f"{path}: not a checkpoint of the MRI reference with {name}, the most similar network:\n"
            f"{mismatch.describe()}\n  → give the best_model.pth that its train.py writes, unchanged"
        )
    record = content if isinstance(content, Mapping) else {}
    epoch = record.get("epoch")
    return MRICheckpoint(
        state_dict={ours[key]: tensor for key, tensor in found.items()},
        name=name,
        depth=depth,
        outputs=outputs,
        epoch=int(epoch) if isinstance(epoch, int) else None,
        metrics=plain_data(record.get("metrics", {})),
    )


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Read the reference's `parameters.json`: the options that its training script was called with.

    Raises:
        CheckpointError: no such file, or no JSON object.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give the run's parameters.json") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: no JSON ({error}); give the parameters.json of the run's folder") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: expected an object of options, found {type(record).__name__}")
    return record


def _theirs(name: str) -> str:
    """The reference's name of one of our tensors."""
    for ours, theirs in THEIRS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
