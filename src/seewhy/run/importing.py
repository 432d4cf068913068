"""Other people's checkpoints as Lightning checkpoints and run folders of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig, open_dict

from seewhy.errors import CheckpointError
from seewhy.interop.afa import AFACheckpoint, read_afa
from seewhy.io.atomic import atomic_path
from seewhy.run.build import build_model
from seewhy.run.folder import RunFolder

__all__ = ["import_afa"]


def import_afa(file: Path, folder: Path, config: DictConfig, *, pooling: str, root: str | None, overwrite: bool) -> str:
    """Bring a reference checkpoint into a run folder that `predict` and `explain` take.

    Args:
        file: the reference's `.pth`.
        folder: run folder to make: `config.yaml`, `checkpoints/{best,last}.ckpt`.
        config: a training configuration with the published method's model; sized here as the file says.
        pooling: the file does not say which one it was trained with.
        root: the data set's folder; may be given later with `data.root=…`.
        overwrite: replace a run that is there.

    Returns:
        What was imported, in one line.

    Raises:
        CheckpointError: not such a checkpoint, unsafe to load, or the folder holds a run.
    """
    imported = read_afa(file)
    run = RunFolder(folder)
    if not overwrite:
        run.refuse_overwrite("choose another folder, or add --overwrite")
    _fit(config, imported, pooling=pooling, root=root, folder=folder)
    model = build_model(config)
    try:
        model.load_state_dict(imported.state_dict)
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
    run.write_config(config, imported=file.name)
    return f"{imported.variant}, {imported.num_classes} classes → {run.path} (predict.py run={run.path} data.root=…)"


def _fit(config: DictConfig, imported: AFACheckpoint, *, pooling: str, root: str | None, folder: Path) -> None:
    """Set what the file says and what its training did to images."""
    with open_dict(config):
        config.name = f"imported/{config.name}"
        config.paths.output_dir = str(folder)
        config.data.root = root if root is not None else "data"
        config.data.channels, config.data.normalize = imported.in_channels, "imagenet"
        config.data.num_classes = config.model.num_classes = imported.num_classes
        config.model.encoder.name = imported.variant
        config.model.encoder.attention_blocks = imported.attention_blocks
        config.model.pooling = {"name": pooling}
        config.model.decoder.dim = imported.decoder_dim
