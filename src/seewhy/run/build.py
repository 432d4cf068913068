"""Build objects from configuration nodes; all problems of a node are reported at once."""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeGuard

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from seewhy.callbacks.guards import EndOnSigterm, StopIfNotFinite
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, SeewhyError
from seewhy.metrics.direction import find_mode
from seewhy.option_types import find_value_problem
from seewhy.options import call_problems
from seewhy.run.processes.environment import fit_trainer_options
from seewhy.run.processes.launcher import replace_launcher
from seewhy.tracking.run import ArtifactKind, WatchedValues

__all__ = [
    "LOGGER_OPTIONS",
    "LoggerOptions",
    "build",
    "build_callbacks",
    "build_datamodule",
    "build_loggers",
    "build_model",
    "build_trainer",
    "keep_freed_memory",
    "set_threads",
    "silence_known_warnings",
    "to_plain_data",
]

ADVERTS = ("litlogger", "litmodels")
"""Words in Lightning's advertisements, which it logs at every start."""
IGNORED_WARNINGS = (
    r".*It is recommended to use `self\.log\(.*sync_dist=True",  # scores are gathered over ranks before logging
    r".*does not have many workers",  # data.num_workers is a choice; 0 is right for small slices
    r".*is smaller than the logging interval",  # the user chooses the steps of an epoch
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and torch
    r".*find_unused_parameters=True was specified",  # the phases of a training use different heads
)
"""Regular expressions of the beginnings of warnings that do not apply here."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of `mallopt` in glibc's malloc.h."""
LARGEST_BLOCK = 2**25
"""Largest block in bytes that glibc can keep; larger ones always go back to the system."""
KEPT = 2**31 - 1
"""Freed bytes at the end of the heap above which memory goes back to the system."""
AHEAD = 2**26
"""Bytes by which the heap grows at a time."""


def silence_known_warnings() -> None:
    """Let Hydra's handler alone print Lightning's messages, and ignore advice that does not apply here."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if not any(isinstance(item, _DropAdverts) for item in logger.filters):
        logger.addFilter(_DropAdverts())
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)


class _DropAdverts(logging.Filter):
    """Drops advertisements."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a message."""
        message = record.getMessage()
        return not any(word in message for word in ADVERTS)


RESERVED = {"_target_", "_convert_", "_recursive_", "_partial_", "_args_"}


def build(node: DictConfig | None, name: str, **extra: Any) -> Any:
    """Instantiate the object of a configuration node; containers are passed to it as plain dicts and lists.

    Args:
        node: a configuration node with `_target_`.
        name: dotted name of the node, for messages.
        extra: further keyword arguments.

    Raises:
        ConfigError: no node, no `_target_`, a class that does not exist, or unknown or missing options.

    Example:
        >>> from omegaconf import OmegaConf
        >>> from seewhy.run.build import build
        >>> build(OmegaConf.create({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1}), "head")
        Linear(in_features=2, out_features=1, bias=True)
        >>> build(OmegaConf.create({"_target_": "torch.nn.Linear", "in_feature": 2}), "head")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: ...head.in_feature...nearest: 'in_features'...
    """
    if node is None:
        raise ConfigError(f"{name} is not chosen; choose an experiment, e.g. experiment=demo/brats")
    problems = find_node_problems(node, name)
    if problems:
        raise ConfigError("; ".join(problems))
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SeewhyError):
            raise cause from None
        if isinstance(cause, ModuleNotFoundError):
            remedy = "pip install 'seewhy[mlflow]'" if "mlflow" in str(cause) else "install it with pip"
            raise ConfigError(f"{name}: {str(cause).partition(' HINT')[0]}; {remedy}") from error
        if isinstance(cause, (TypeError, ValueError)) or type(cause).__name__ == "MisconfigurationException":
            raise ConfigError(f"{name}: {cause}") from error
        raise


KEYWORDS: dict[str, Any] = {
    "_convert_": Literal["none", "partial", "object", "all"],
    "_recursive_": bool,
    "_partial_": bool,
    "_args_": list[Any],
}
"""Keywords of Hydra in a node, and their types."""


def to_plain_data(node: Any) -> Any:
    """Convert a configuration node to plain data; other values are returned unchanged."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _find_keyword_problems(node: DictConfig, name: str, *, whole: bool) -> list[str]:
    """List the problems of Hydra's keywords; what a command uses as a whole cannot be built in part."""
    plain: Any = OmegaConf.to_container(node, resolve=False)
    found = [find_value_problem(plain[key], hint, f"{name}.{key}") for key, hint in KEYWORDS.items() if key in plain]
    if whole and plain.get("_partial_") is True:
        found.append(f"{name}._partial_=true: it is built as a whole; remove _partial_")
    return [problem for problem in found if problem is not None]


def find_node_problems(node: DictConfig, name: str, *, whole: bool = True) -> list[str]:
    """List the problems of a node and of nodes with `_target_` below it: wrong class, unknown keys, wrong values.

    Args:
        node: with `_target_`.
        name: its dotted name.
        whole: whether it stands for an object, and not for a part of one that may be built later.
    """
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        return [f"{name} has no _target_, so nothing can be built from it"]
    missing = [f"{name}.{key!s} must be given" for key in node if OmegaConf.is_missing(node, key)]
    missing += _find_keyword_problems(node, name, whole=whole)
    target = str(node["_target_"])
    try:
        factory = get_object(target)
    except Exception as error:  # hydra re-raises whatever the module's import raises
        cause = " ".join(str(error).split())
        return [*missing, f"{name}._target_={target!r} cannot be imported ({cause})"]
    children = {str(key): None if OmegaConf.is_missing(node, key) else node[key] for key in node}
    plain = {
        key: to_plain_data(child)
        for key, child in children.items()
        if key not in RESERVED and not OmegaConf.is_missing(node, key) and not _is_object(child)
    }
    problems = missing + call_problems(factory, plain, name)
    for key, child in children.items():
        if _is_object(child):
            problems += find_node_problems(child, f"{name}.{key}", whole=False)
    return problems


def _is_object(node: Any) -> TypeGuard[DictConfig]:
    return isinstance(node, DictConfig) and "_target_" in node


def set_threads(config: DictConfig) -> None:
    """Set the number of CPU threads of tensor operations to `threads`, if it is set."""
    if config.threads is not None:
        import torch

        if config.threads < 1:
            raise ConfigError(f"threads={config.threads} must be 1 or more, or null")
        torch.set_num_threads(config.threads)


def build_datamodule(config: DictConfig) -> BaseDataModule:
    """Build the DataModule of `data`, after writing the phantom of `phantom` if it does not exist."""
    if config.get("phantom") is not None:
        build(config.phantom, "phantom")
    datamodule: BaseDataModule = build(config.data, "data")
    if not isinstance(datamodule, BaseDataModule):
        raise ConfigError(f"data._target_={config.data._target_!r} is not a seewhy.data.base.BaseDataModule")
    return datamodule


def build_model(config: DictConfig) -> LightningModule:
    """Build the LightningModule of `model`."""
    model: LightningModule = build(config.model, "model")
    return model


def build_callbacks(nodes: DictConfig | None) -> list[Callback]:
    """Build all entries of `callbacks`; entries set to `null` are left out."""
    callbacks = {str(key): build(node, f"callbacks.{key!s}") for key, node in (nodes or {}).items() if node is not None}
    for key, callback in callbacks.items():
        if isinstance(callback, (ModelCheckpoint, EarlyStopping)) and callback.monitor is not None:
            find_mode(callback.monitor, callback.mode, option=f"callbacks.{key}")  # Lightning's own default is `min`
    return list(callbacks.values())


def build_loggers(nodes: DictConfig | None) -> list[Logger]:
    """Build all entries of `logger`; entries set to `null` and options that all share are left out."""
    chosen = {str(key): node for key, node in (nodes or {}).items() if str(key) not in LOGGER_OPTIONS}
    return [build(node, f"logger.{key}") for key, node in chosen.items() if node is not None]


@dataclass(frozen=True)
class LoggerOptions:
    """Options of `logger` that all loggers share, as they are in conf/logger/shared/options.yaml."""

    name: str | None = None
    group: str | None = None
    tags: Sequence[str] = ()
    notes: str | None = None
    artifacts: Sequence[ArtifactKind] = ()
    watch: WatchedValues | None = None
    offline: bool = True


LOGGER_OPTIONS = tuple(field.name for field in fields(LoggerOptions))


PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Precisions of a Trainer that keep the weights, the images and their labels as they are."""


def build_trainer(config: DictConfig, callbacks: list[Callback], loggers: list[Logger]) -> Trainer:
    """Build the Trainer with seewhy's guards, and without callbacks whose progress bar or logger is switched off."""
    silence_known_warnings()
    if config.get("trainer") is None:
        raise ConfigError("trainer is not chosen, e.g. trainer=default")
    if not config.trainer.get("enable_progress_bar", True):  # Lightning would refuse progress bars of `callbacks`
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    if not loggers:
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    trainer: Trainer = build(
        config.trainer, "trainer", callbacks=[StopIfNotFinite(), *callbacks, EndOnSigterm()], logger=loggers or False,
        **fit_trainer_options(config.trainer),
    )  # fmt: skip
    replace_launcher(trainer)
    if trainer.precision not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision={config.trainer.precision} is not supported, as it would also convert images and "
            f"labels; valid: {', '.join(PRECISIONS)}"
        )
    return trainer


def keep_freed_memory() -> bool:
    """Keep up to 2 GiB of freed memory in this process, from now on.

    Every step of a training frees and needs the same tensors. By default glibc gives large freed blocks back to the
    system, which then has to find and clear the same pages again: `train.py experiment=demo/brats` took 198 s of one
    core without this and 183 s with it. The process does not need more memory at its peak, but keeps it until its end.
    Only glibc needs this; elsewhere, and if the environment sets a threshold, nothing happens.

    Returns:
        Whether the settings were applied.
    """
    if any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_BLOCK), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, AHEAD))
    return all(bool(mallopt(name, value)) for name, value in settings)
