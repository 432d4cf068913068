"""A trained run brought back: its data, its model with the weights of a checkpoint, a Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig

from seewhy.data.base import BaseDataModule
from seewhy.run.build import build_callbacks, build_datamodule, build_loggers, build_model, build_trainer, set_threads
from seewhy.run.checkpoint import load_state
from seewhy.run.folder import RunFolder

__all__ = ["SavedRun", "restore"]


@dataclass(frozen=True)
class SavedRun:
    """What `predict` and `explain` work with."""

    folder: RunFolder
    checkpoint: Path
    datamodule: BaseDataModule
    model: LightningModule
    trainer: Trainer


def restore(config: DictConfig, *callbacks: Callback) -> SavedRun:
    """Build everything from a run's configuration (with overrides) and load its checkpoint strictly.

    Args:
        config: composed from `predict.yaml` or `explain.yaml`.
        callbacks: further callbacks, before those of the configuration.

    Raises:
        SeewhyError: no such checkpoint, one of another model, or a wrong override.
    """
    folder = RunFolder(config.run)
    checkpoint = Path(config.ckpt_path) if config.ckpt_path else folder.checkpoint(final=config.use_final)
    set_threads(config)
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    model = build_model(config)
    kept = load_state(model, checkpoint).get("hyper_parameters")
    if isinstance(kept, Mapping):
        datamodule.adopt(kept)
    loggers = build_loggers(config.logger)
    trainer = build_trainer(config, [*callbacks, *build_callbacks(config.callbacks)], loggers)
    return SavedRun(folder, checkpoint, datamodule, model, trainer)
