"""Save a model that was trained in Python as a run folder."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch import LightningModule
from omegaconf import OmegaConf

from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError
from seewhy.io.atomic import atomic_path, write_json
from seewhy.models.protocols import SegmentsVolumes
from seewhy.run.folder import RunFolder, conf_dir
from seewhy.run.loaded.saved_run import read_checkpoint
from seewhy.run.model_card import write_model_card

__all__ = ["save"]

PLAIN = (str, int, float, bool, type(None))


def save(
    model: LightningModule,
    datamodule: BaseDataModule,
    folder: str | Path,
    *,
    checkpoint: str | Path | None = None,
    name: str = "python",
) -> Path:
    """Save a model that was trained in Python, so that `seewhy.load`, `predict` and `explain` can use it.

    The folder is a run folder as a training by command writes it, with `config.yaml`, `split.json` and
    `checkpoints/best.ckpt` and its model card, but without results. Options of commands, such as `explain` and
    `trainer`, have their defaults.

    Args:
        model: a LightningModule that has called `save_hyperparameters()`, as those of seewhy do.
        datamodule: of the training; its options are those of its constructor.
        folder: a new folder, or one without checkpoints.
        checkpoint: a Lightning checkpoint of this model, e.g. `trainer.checkpoint_callback.best_model_path`; None saves
            the present weights.
        name: of the run, as `experiment` is in a run by command.

    Returns:
        `folder` as a path.

    Raises:
        ConfigError: the folder holds a run, the class of the model or the data cannot be imported by another program,
            or an option is not plain data.
        CheckpointError: `checkpoint` is not a Lightning checkpoint.

    Example:
        >>> import seewhy
        >>> from seewhy.data import BraTSDataModule
        >>> from seewhy.models import WeaklySupervisedSegmentation
        >>> from seewhy.phantoms import write_tumour_phantom
        >>> root = write_tumour_phantom("tumour", patients=10, slices=2, size=32)
        >>> model = WeaklySupervisedSegmentation(
        ...     encoder={"name": "cnn"}, optimizer={"name": "adamw", "lr": 1e-3}, scheduler={"name": "constant"}
        ... )
        >>> run = seewhy.save(model, BraTSDataModule(root=root), "run")  # after a training
        >>> seewhy.load(run).inputs
        ('image',)
    """
    run = RunFolder(folder)
    run.refuse_overwrite("choose another folder")
    args, options = datamodule.given
    given = inspect.signature(type(datamodule)).bind(*args, **options).arguments
    kind = "volume" if isinstance(model, SegmentsVolumes) else "default"
    record = {
        "name": name,
        "seed": int(model.hparams.get("seed", 0)),
        "data": {"_target_": _find_target(datamodule), **_to_plain(given, "data")},
        "model": {"_target_": _find_target(model), "_convert_": "all", **_to_plain(model.hparams, "model")},
        "explain": _read_defaults("explain", kind),
        "trainer": {**_read_defaults("trainer", "default"), "default_root_dir": str(run.path)},
    }
    source = None if checkpoint is None else Path(checkpoint)
    if source is not None:
        read_checkpoint(source)
    split = datamodule.split_record()
    with atomic_path(run.checkpoints / "best.ckpt") as temporary:
        if source is None:
            torch.save(_make_checkpoint(model), temporary)
        else:
            shutil.copyfile(source, temporary)
    write_json(run.path / "split.json", split)
    run.write_config(OmegaConf.create(record), split=split["hash"], data=datamodule.fingerprint())
    write_model_card(run, model)
    return run.path


def _find_target(part: object) -> str:
    """Dotted name of the class, by which another program can import it."""
    kind = type(part)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise ConfigError(
            f"{kind.__qualname__} is defined in a script, a notebook or a function, so no other program can import "
            "it; move the class into a module (a .py file)"
        )
    return f"{kind.__module__}.{kind.__qualname__}"


def _read_defaults(group: str, name: str) -> dict[str, Any]:
    """Options of a file of the configuration."""
    options: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"), resolve=False)
    return dict(options)


def _to_plain(value: Any, name: str) -> Any:
    """The value as dicts, lists, text and numbers.

    Raises:
        ConfigError: anything else, with the name of its option.
    """
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Sequence):
        return [_to_plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    raise ConfigError(f"{name} is a {type(value).__name__}, which a configuration cannot hold; give plain data")


def _make_checkpoint(model: LightningModule) -> dict[str, Any]:
    """Checkpoint of the present weights, as Lightning lays it out."""
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "hparams_name": "kwargs",
        "epoch": model.current_epoch,
        "global_step": model.global_step,
        "pytorch-lightning_version": lightning.__version__,
    }
    model.on_save_checkpoint(checkpoint)
    return checkpoint
