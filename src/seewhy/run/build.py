"""From configuration nodes to objects, with every mistake in a node said at once.

Messages of libraries that tell a user of ours nothing, kept out of the log and the terminal.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, SeewhyError
from seewhy.options import accepted_options, option_problems

__all__ = [
    "build",
    "build_callbacks",
    "build_datamodule",
    "build_loggers",
    "build_model",
    "build_trainer",
    "set_threads",
    "silence_known_warnings",
]

ADVERTS = ("litlogger", "litmodels")
"""Products that Lightning recommends at every start."""

PASSED_OVER = (
    r".*It is recommended to use `self\.log\(.*sync_dist=True",  # scores are gathered over ranks before they are logged
    r".*does not have many workers",  # data.num_workers is a choice; 0 is right for small slices
    r".*is smaller than the logging interval",  # an epoch has as many steps as one asks for
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
    r".*find_unused_parameters=True was specified",  # the phases of a training use different heads
)
"""Beginnings of warnings, as regular expressions."""


def silence_known_warnings() -> None:
    """Leave Lightning's lines to Hydra's one handler, and drop advice that does not apply here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
    spoken = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if not any(isinstance(known, _NoAdverts) for known in spoken.filters):
        spoken.addFilter(_NoAdverts())
    for pattern in PASSED_OVER:
        warnings.filterwarnings("ignore", pattern)


class _NoAdverts(logging.Filter):
    """Lets everything pass but adverts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a message."""
        message = record.getMessage()
        return not any(word in message for word in ADVERTS)


RESERVED = {"_target_", "_convert_", "_recursive_", "_partial_", "_args_"}


def build(node: DictConfig | None, name: str, **extra: Any) -> Any:
    """Instantiate one node as plain data in, object out.

    Args:
        node: a configuration node with `_target_`.
        name: its dotted name, for messages.
        extra: further keyword arguments.

    Raises:
        ConfigError: no node, no `_target_`, a class that does not exist, or keys the class does not take.
    """
    if node is None:
        raise ConfigError(f"{name} is not chosen; choose an experiment, e.g. experiment=demo/brats")
    problems = check_node(node, name)
    if problems:
        raise ConfigError("; ".join(problems))
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SeewhyError):
            raise cause from None
        if isinstance(cause, ModuleNotFoundError):
            message = f"{name}: {cause}; install it with pip"
            raise ConfigError(message) from error
        if isinstance(cause, (TypeError, ValueError)) or _misconfigured(cause):
            raise ConfigError(f"{name}: {cause}") from error
        raise


def _misconfigured(cause: BaseException | None) -> bool:
    """Whether Lightning says that an argument does not fit."""
    return type(cause).__name__ == "MisconfigurationException"


def check_node(node: DictConfig, name: str) -> list[str]:
    """Problems of a node and of the nodes with `_target_` below it: wrong class, unknown or missing keys."""
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        return [f"{name} has no _target_: it says nothing that could be built"]
    missing = [f"{name}.{key!s} must be given" for key in node if OmegaConf.is_missing(node, key)]
    target = str(node["_target_"])
    try:
        factory = get_object(target)
    except Exception as error:  # hydra re-raises whatever the module's import raises
        return [*missing, f"{name}._target_={target!r} cannot be imported ({error})"]
    problems = missing + _unknown_arguments(factory, node, name)
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig) and "_target_" in child:
            problems += check_node(child, f"{name}.{key!s}")
    return problems


def _unknown_arguments(factory: Any, node: DictConfig, name: str) -> list[str]:
    """Keys that the factory's signature does not have."""
    valid = accepted_options(factory)
    keys = [str(key) for key in node if key not in RESERVED]
    return [] if valid is None else option_problems(keys, valid, name, of=factory.__name__)


def set_threads(config: DictConfig) -> None:
    """Use `threads` CPU threads within an operation, where the configuration says how many."""
    if config.threads is not None:
        import torch

        if config.threads < 1:
            raise ConfigError(f"threads={config.threads} must be 1 or more, or null")
        torch.set_num_threads(config.threads)


def build_datamodule(config: DictConfig) -> BaseDataModule:
    """The DataModule of `data`; a phantom named by `phantom` is written first, if it is not there."""
    if config.get("phantom") is not None:
        build(config.phantom, "phantom")
    datamodule: BaseDataModule = build(config.data, "data")
    if not isinstance(datamodule, BaseDataModule):
        raise ConfigError(f"data._target_={config.data._target_!r} is no seewhy.data.base.BaseDataModule")
    return datamodule


def build_model(config: DictConfig) -> LightningModule:
    """The LightningModule of `model`."""
    model: LightningModule = build(config.model, "model")
    return model


def build_callbacks(nodes: DictConfig | None) -> list[Callback]:
    """Every entry of `callbacks`; an entry switched off with `null` is left out."""
    return [build(node, f"callbacks.{key!s}") for key, node in (nodes or {}).items() if node is not None]


def build_loggers(nodes: DictConfig | None) -> list[Logger]:
    """Every entry of `logger`; an entry switched off with `null` is left out."""
    return [build(node, f"logger.{key!s}") for key, node in (nodes or {}).items() if node is not None]


def build_trainer(config: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """The Trainer; what Lightning says goes to Hydra's log only, without advice that does not apply."""
    silence_known_warnings()
    if config.get("trainer") is None:
        raise ConfigError("trainer is not chosen, e.g. trainer=default")
    if not config.trainer.get("enable_progress_bar", True):  # Lightning would refuse the bars of `callbacks`
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    trainer: Trainer = build(config.trainer, "trainer", callbacks=callbacks, logger=loggers or False)
    return trainer
