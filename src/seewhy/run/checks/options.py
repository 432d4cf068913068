"""Check the options of a command before anything is read or written; all problems are reported at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Lt
from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError
from seewhy.option_types import PositiveInt, find_value_problem
from seewhy.options import call_problems, collect_problem, parse_options
from seewhy.run.build import LOGGER_OPTIONS, LoggerOptions, find_node_problems

__all__ = ["check_config"]

LIMITS: dict[str, Any] = {
    "threads": PositiveInt | None,
    "seed": Annotated[int, Ge(0), Lt(2**32)],
    "trainer.accumulate_grad_batches": PositiveInt,
    "trainer.check_val_every_n_epoch": PositiveInt | None,
}
"""Type and limits of options whose reader states none; Lightning divides by those of the Trainer."""


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
        >>> from seewhy.run.checks.options import check_config
        >>> words = ["data.num_workers=-2", "trainer.max_epochs=many"]
        >>> config = compose_train("experiment=demo/amd", "paths.output_dir=run", *words)
        >>> check_config(config, "data", "trainer")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: data.num_workers=-2 must be an integer, 0 or more; trainer.max_epochs='many' must...
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
        "volume": _find_volume_problems,
        "evaluate": _find_evaluate_problems,
        "cases": _find_cases_problems,
    }
    return readers[group](config) if group in readers else find_node_problems(node, group)


def _find_logger_problems(node: DictConfig) -> list[str]:
    """List the problems of the options that all loggers share."""
    given = {key: node[key] for key in LOGGER_OPTIONS if key in node}
    plain = {key: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for key, v in given.items()}
    return call_problems(LoggerOptions, plain, "logger")


def _find_explain_problems(config: DictConfig) -> list[str]:
    from seewhy.run.explainers import find_map_writer, load_explainer_nodes, read_explain_options
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
    for name, explainer in load_explainer_nodes(node).items():
        problems += find_node_problems(explainer, f"explain.options.{name}")
    writer = find_map_writer(config)
    return problems if writer is None else [*problems, *find_node_problems(writer, "explain.own_maps")]


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
