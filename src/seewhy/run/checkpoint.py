"""Reading checkpoints without unpickling, and putting their weights into a model built from a configuration."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seewhy.errors import CheckpointError

__all__ = ["load_state", "read_checkpoint"]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint with `weights_only=True`.

    Raises:
        CheckpointError: the file is missing, damaged, holds objects other than plain data and tensors, or is no
            Lightning checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than plain data and tensors, so loading it could run code; refused ({first})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path} is no Lightning checkpoint (no state_dict); bare weights are brought in with "
            "`python -m seewhy import` or weights=…"
        )
    return checkpoint


def load_state(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint's weights strictly into a model; returns the checkpoint.

    Raises:
        CheckpointError: names or shapes differ: the first of each kind are named.
    """
    checkpoint = read_checkpoint(path)
    state, own = checkpoint["state_dict"], model.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} here {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {kind} (first: {names[0]})"
        for kind, names in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} is of another model than {type(model).__name__}: " + ", ".join(problems))
    model.load_state_dict(state)
    return checkpoint
