"""Load a trained run: its data, its model with the weights of a checkpoint, and a Trainer."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig
from torch import Tensor, nn

from seewhy.data.base import BaseDataModule
from seewhy.errors import CheckpointError, DataError
from seewhy.interop.network_size import limit_network
from seewhy.interop.tensors import READ_ERRORS, check_finite_weights, list_foreign_tensors
from seewhy.io.checks.sizes import check_regular_file
from seewhy.run.build import build_callbacks, build_datamodule, build_loggers, build_model, build_trainer, set_threads
from seewhy.run.folder import RunFolder

__all__ = ["SavedRun", "build_saved_model", "load_run", "load_state", "read_checkpoint"]


PARTS = {"pytorch-lightning_version": str, "loops": dict, "callbacks": dict, "optimizer_states": list, "epoch": int}
"""Entries of a Lightning checkpoint that a continued training reads, and their types."""


def _find_foreign_entries(checkpoint: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """List entries of other types than Lightning writes, and tensors that are not weights."""
    problems = [
        f"{key} is {checkpoint[key]!r:.40}, not a {kind.__name__}"
        for key, kind in PARTS.items()
        if key in checkpoint and not isinstance(checkpoint[key], kind)
    ]
    return problems + list_foreign_tensors(state)[:3]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint with `weights_only=True`.

    Raises:
        CheckpointError: the file is missing, damaged, holds objects other than plain data and tensors, or is not a
            Lightning checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        check_regular_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than plain data and tensors, so loading it could run code; refused ({first})"
        ) from error
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except READ_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({reason})") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            f"{path} is not a Lightning checkpoint (no state_dict of names and tensors); load bare weights with "
            "`python -m seewhy import` or weights=…"
        )
    problems = _find_foreign_entries(checkpoint, state)
    if problems:
        raise CheckpointError(f"{path} is not a checkpoint that seewhy wrote: {'; '.join(problems)}")
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"{path}: {len(others)} entries of its state_dict are not tensors (first: {others[0]})")
    return cast("dict[str, Any]", checkpoint)


def load_state(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load the weights of a checkpoint strictly into a model, and return the checkpoint.

    Raises:
        CheckpointError: names or shapes differ, with the first of each kind; or weights are not finite.
    """
    checkpoint = read_checkpoint(path)
    state, expected = checkpoint["state_dict"], model.state_dict()
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} here {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    problems = [
        f"{len(names)} {kind} (first: {names[0]})"
        for kind, names in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} is of another model than {type(model).__name__}: " + ", ".join(problems))
    check_finite_weights(model, state, path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:  # e.g. complex or quantized values
        raise CheckpointError(f"{path} does not fit {type(model).__name__} ({' '.join(str(error).split())})") from error
    return checkpoint


@dataclass(frozen=True)
class SavedRun:
    """A trained run as `predict`, `explain`, `evaluate` and `cases` use it."""

    folder: RunFolder
    checkpoint: Path
    datamodule: BaseDataModule
    model: LightningModule
    trainer: Trainer


def build_saved_model(config: DictConfig, checkpoint: Path) -> LightningModule:
    """Build the model of a run, whose configuration may come from elsewhere, if its checkpoint can hold the weights.

    Raises:
        CheckpointError: no such checkpoint, or a network that is larger than it.
        ConfigError: a wrong option.
    """
    if not checkpoint.exists():
        raise CheckpointError(f"checkpoint {checkpoint} does not exist")
    with limit_network(checkpoint, where=f"the configuration of {config.get('run') or config.name}"):
        return build_model(config)


def load_run(config: DictConfig, *callbacks: Callback) -> SavedRun:
    """Build data, model and Trainer from a run's configuration (with overrides) and load its checkpoint strictly.

    Args:
        config: composed from `predict.yaml`, `explain.yaml`, `evaluate.yaml` or `cases.yaml`.
        callbacks: further callbacks, called after those of the configuration, which write predictions.

    Raises:
        SeewhyError: no such checkpoint, a checkpoint of another model, or a wrong override.
    """
    folder = RunFolder(config.run)
    checkpoint = Path(config.ckpt_path) if config.ckpt_path else folder.checkpoint(final=config.use_final)
    set_threads(config)
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    model = build_saved_model(config, checkpoint)
    state = load_state(model, checkpoint)
    hyperparameters = state.get("hyper_parameters")
    if isinstance(hyperparameters, Mapping):
        datamodule.adopt(hyperparameters)
    loggers = build_loggers(config.logger)
    trainer = build_trainer(config, [*build_callbacks(config.callbacks), *callbacks], loggers)
    trainer.fit_loop.epoch_loop._batches_that_stepped = _read_step(state)  # loggers show it as the step of this command
    return SavedRun(folder, checkpoint, datamodule, model, trainer)


def _read_step(checkpoint: Mapping[str, Any]) -> int:
    """Number of batches that the weights were trained on; 0 for weights from elsewhere."""
    try:
        return int(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])
    except (KeyError, TypeError, ValueError):
        return 0
