"""Checks before anything is read or written: the options of a command, and the scores that a training waits for."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig, OmegaConf

from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, nearest
from seewhy.option_types import PositiveInt, Seed, find_value_problem
from seewhy.options import call_problems, collect_problem, parse_options
from seewhy.run.build import LOGGER_OPTIONS, LoggerOptions, find_node_problems, to_plain_data

__all__ = ["check_config", "check_objectives", "check_score_names"]

LIMITS: dict[str, Any] = {
    "threads": PositiveInt | None,
    "effective_batch_size": Annotated[int, Ge(1), Le(2**20)] | None,
    "seed": Seed,
    "trainer.accumulate_grad_batches": PositiveInt,
    "trainer.check_val_every_n_epoch": PositiveInt | None,
    "trainer.devices": Annotated[int, Le(max(8, os.cpu_count() or 1))] | str | list[int],
}
"""Type and limits of options whose reader states none; Lightning divides by those of the Trainer, and starts as many
processes as the configuration asks."""


def check_config(config: DictConfig, *groups: str) -> None:
    """Check groups of options: names against what exists, values against types and limits.

    Args:
        config: of the command.
        groups: those that the command uses: `data`, `model`, `callbacks`, `volume`, … A group that is null is skipped,
            and left to the code that needs it.

    Raises:
        ConfigError: all problems of all groups, each with the full name of the option.

    Example:
        >>> from seewhy.cli.compose import compose_train
        >>> from seewhy.run.checks import check_config
        >>> words = ["data.num_workers=-2", "trainer.max_epochs=many"]
        >>> config = compose_train("experiment=demo/amd", "paths.output_dir=run", *words)
        >>> check_config(config, "data", "trainer")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: data.num_workers=-2 must be an integer, from 0 to 512; ...
    """
    problems = [problem for group in groups for problem in _find_problems(config, group)]
    numbers = {name: OmegaConf.select(config, name, default=1) for name in LIMITS}
    limited = [find_value_problem(value, LIMITS[name], name) for name, value in numbers.items()]
    named = {problem.partition("=")[0] for problem in problems}
    problems = [problem for problem in limited if problem and problem.partition("=")[0] not in named] + problems
    if problems:
        raise ConfigError("; ".join(problems))


def _find_problems(config: DictConfig, group: str) -> list[str]:
    """List the problems of a group, in the order of its options."""
    node = config.get(group)
    if node is None:
        return []
    if not isinstance(node, DictConfig):
        return [f"{group}={node!r} must be a mapping from option names to values"]
    if group in ("callbacks", "logger"):
        shared = LOGGER_OPTIONS if group == "logger" else ()
        problems = _find_logger_problems(node) if group == "logger" else []
        return problems or [
            problem
            for key in map(str, node)
            if node[key] is not None and key not in shared
            for problem in find_node_problems(node[key], f"{group}.{key!s}")
        ]
    readers: dict[str, Callable[[DictConfig], list[str]]] = {
        "explain": _find_explain_problems,
        "job": _find_job_problems,
        "volume": _find_volume_problems,
        "evaluate": _find_evaluate_problems,
        "cases": _find_cases_problems,
    }
    return readers[group](config) if group in readers else find_node_problems(node, group)


def _find_logger_problems(node: DictConfig) -> list[str]:
    """List the problems of the options that all loggers share."""
    given = {key: to_plain_data(node[key]) for key in LOGGER_OPTIONS if key in node}
    return call_problems(LoggerOptions, given, "logger")


def _find_explain_problems(config: DictConfig) -> list[str]:
    from seewhy.run.explanations.explainers import find_map_writer, load_explainer_nodes, read_explain_options
    from seewhy.run.volumes.options import RegionOptions

    node = config.explain
    if "roi" in node:
        plain = OmegaConf.to_container(node, resolve=True)
        problems = collect_problem(lambda: parse_options(RegionOptions, plain, where="explain"))
    else:
        problems = collect_problem(lambda: read_explain_options(node).choice())
    if problems:
        return problems
    problems += collect_problem(lambda: load_explainer_nodes(node))
    if problems:
        return problems
    for name, explainer in load_explainer_nodes(node, all_options=True).items():
        problems += find_node_problems(explainer, f"explain.options.{name}")
    writer = find_map_writer(config)
    return problems if writer is None else [*problems, *find_node_problems(writer, "explain.own_maps")]


def _find_job_problems(config: DictConfig) -> list[str]:
    from seewhy.run.processes.sharing import read_sharing_options

    return collect_problem(lambda: read_sharing_options(config))


def _find_volume_problems(config: DictConfig) -> list[str]:
    from seewhy.run.volumes.options import VolumeOptions

    plain: Any = OmegaConf.to_container(config.volume, resolve=True)
    problems = collect_problem(lambda: parse_options(VolumeOptions, plain, where="volume"))
    network = config.volume.get("model", {}).get("network") if not problems else None
    return problems if network is None else find_node_problems(network, "volume.model.network")


def _find_evaluate_problems(config: DictConfig) -> list[str]:
    from seewhy.run.translation.evaluation.settings import EvaluationSettings

    return collect_problem(lambda: EvaluationSettings.of(config.evaluate))


def _find_cases_problems(config: DictConfig) -> list[str]:
    from seewhy.run.translation.qualitative.case_list import CaseOptions

    plain = OmegaConf.to_container(config.cases, resolve=True)
    return collect_problem(lambda: parse_options(CaseOptions, plain, where="cases"))


KNOWN = {"val/loss", "val/prediction/dice"}
"""Scores that the callbacks in `conf/` monitor; they are not looked for, which takes one validation."""


def check_objectives(config: DictConfig, names: Sequence[str]) -> None:
    """Refuse test scores as objectives of a search: the best of many test scores says nothing about new patients.

    Raises:
        ConfigError: a test score without `objective_on_test=true`.

    Example:
        >>> from omegaconf import OmegaConf
        >>> from seewhy.run.checks import check_objectives
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
        return "no validation patients"
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
