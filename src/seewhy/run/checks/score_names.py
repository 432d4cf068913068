"""Check the names of scores that callbacks and a sweep wait for, before a training begins."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig

from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, nearest

__all__ = ["check_objectives", "check_score_names"]

KNOWN = {"val/loss", "val/prediction/dice"}
"""Scores that the callbacks in `conf/` monitor; they are not looked for, which takes one validation."""


def check_objectives(config: DictConfig, names: Sequence[str]) -> None:
    """Refuse test scores as objectives of a search: the best of many test scores says nothing about new patients.

    Raises:
        ConfigError: a test score without `objective_on_test=true`.

    Example:
        >>> from omegaconf import OmegaConf
        >>> from seewhy.run.checks.score_names import check_objectives
        >>> check_objectives(OmegaConf.create({"objective_on_test": False}), ["test/dice"])
        Traceback (most recent call last):
        seewhy.errors.ConfigError: objective='test/dice' would choose by the test patients, ...
    """
    tested = [name for name in names if name.startswith("test/")]
    if tested and not config.get("objective_on_test"):
        raise ConfigError(
            f"objective={tested[0]!r} would choose by the test patients, and its best value would no longer be a test; "
            f"choose a score of the validation, e.g. objective={tested[0].replace('test/', 'val/', 1)}, or set "
            "objective_on_test=true"
        )


def check_score_names(
    config: DictConfig, model: LightningModule, datamodule: BaseDataModule, callbacks: Sequence[Callback]
) -> None:
    """Check that `objective` and the monitors of callbacks name scores that will be measured.

    Unusual names are looked for in a validation or test of a copy of the untrained model.

    Args:
        config: of the job.
        model: before its training.
        datamodule: set up for `fit`.
        callbacks: those of `config.callbacks`, in order.

    Raises:
        ConfigError: a name that is not measured, with the nearest ones, or a stop by validation without any.
    """
    nodes = {str(key): node for key, node in (config.callbacks or {}).items() if node is not None}
    wanted = {f"callbacks.{key}.monitor": node["monitor"] for key, node in nodes.items() if node.get("monitor")}
    reason = _find_why_not_validated(config, datamodule)
    for key, callback in zip(nodes, callbacks, strict=True):
        if reason and isinstance(callback, EarlyStopping) and callback.monitor.startswith("val/"):
            raise ConfigError(f"callbacks.{key} stops by {callback.monitor!r}, but nothing is validated: {reason}")
    tested = [f"{option}={name!r}" for option, name in wanted.items() if str(name).startswith("test/")]
    if tested:
        raise ConfigError(f"{'; '.join(tested)}: the best epoch is chosen by a score of the validation (val/…)")
    if config.objective is not None:
        wanted["objective"] = config.objective
        check_objectives(config, [config.objective])
        if reason and config.objective.startswith("val/"):
            raise ConfigError(f"objective={config.objective!r} is not measured: {reason}")
        if config.objective.startswith("test/") and not config.test:
            raise ConfigError(f"objective={config.objective!r} is not measured with test=false")
    if "WORLD_SIZE" in os.environ or config.trainer.get("fast_dev_run"):  # one process must do it alone
        return
    for part in ("val", "test"):
        names = {option: name for option, name in wanted.items() if name.startswith(f"{part}/") and name not in KNOWN}
        if not names or not datamodule.items_of(part) or (part == "val" and reason):
            continue
        measured = _measure(model, datamodule, part)
        wrong = [
            f"{option}={name!r} is not measured; {nearest(name, measured)}"
            for option, name in names.items()
            if name not in measured
        ]
        if wrong:
            raise ConfigError("; ".join(wrong))


def _find_why_not_validated(config: DictConfig, datamodule: BaseDataModule) -> str:
    """Return the reason why no epoch will be validated; empty if one will be."""
    trainer = config.trainer
    every, epochs = trainer.get("check_val_every_n_epoch"), trainer.get("max_epochs")
    if not datamodule.items_of("val"):
        return "there are no validation patients"
    if trainer.get("limit_val_batches") == 0:
        return "trainer.limit_val_batches=0"
    if isinstance(every, int) and isinstance(epochs, int) and every > epochs >= 0:
        return f"trainer.check_val_every_n_epoch={every} in trainer.max_epochs={epochs}"
    return ""


def _measure(model: LightningModule, datamodule: BaseDataModule, part: str) -> list[str]:
    """Return the names of the scores that a validation or test of the untrained model logs."""
    trainer = Trainer(
        accelerator="auto", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    loop = trainer.validate if part == "val" else trainer.test
    with torch.random.fork_rng():
        loop(copy.deepcopy(model), datamodule, verbose=False)
    return [str(name) for name in trainer.callback_metrics]
