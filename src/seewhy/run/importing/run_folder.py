"""Run folders made of other people's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from seewhy.errors import CheckpointError
from seewhy.io.atomic import atomic_path, file_sha256
from seewhy.run.build import build_model
from seewhy.run.folder import RunFolder

__all__ = ["begin_run", "free_folder", "next_command", "write_run"]


def free_folder(folder: Path, overwrite: bool) -> RunFolder:
    """The folder of a run to be.

    Args:
        folder: where.
        overwrite: whether a run that is there may be replaced.

    Raises:
        CheckpointError: it holds a run.
    """
    run = RunFolder(folder)
    if not overwrite:
        run.refuse_overwrite("choose another folder, or add --overwrite")
    return run


def begin_run(config: DictConfig, run: RunFolder, root: str | None) -> None:
    """Set name, folders and the data set's root, which is `data` until it is said."""
    with open_dict(config):
        config.name = f"imported/{config.name}"
        config.paths.output_dir = str(run.path)
        config.data.root = root if root is not None else "data"


def write_run(
    run: RunFolder,
    config: DictConfig,
    file: Path,
    state: Mapping[str, Tensor],
    record: Mapping[str, Any],
    *,
    fresh: tuple[str, ...] = (),
) -> None:
    """Put weights into the configured model, and write the run's files.

    Args:
        run: where.
        config: of the run.
        file: which the weights are of.
        state: all parameters, except those of `fresh`, and those buffers that the file knows.
        record: what `imported.json` says beside the file's name and hash.
        fresh: beginnings of names of parameters that no file need hold; they stay as they begin.

    Raises:
        CheckpointError: weights that do not fit the model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config)
    # What a model of ours measures besides (temperature, weights of classes) stays as it begins; the readers have
    # made sure that no weight is missing.
    buffers = {name for name, _ in model.named_buffers()}
    kept = {name: value for name, value in model.state_dict().items() if name in buffers or name.startswith(fresh)}
    try:
        model.load_state_dict({**kept, **state})
    except RuntimeError as error:
        raise CheckpointError(f"{file} does not fit {type(model).__name__}: {error}") from error
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "hparams_name": "kwargs",
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
    }
    for name in ("best", "last"):
        with atomic_path(run.checkpoints / f"{name}.ckpt") as temporary:
            torch.save(checkpoint, temporary)
    run.write_json("imported.json", {"file": file.name, "sha256": file_sha256(file), **record})
    run.write_config(config, imported=file.name)


def next_command(run: RunFolder) -> str:
    """The run's folder, and what to do with it."""
    return f"{run.path} (predict.py run={run.path} data.root=…)"
