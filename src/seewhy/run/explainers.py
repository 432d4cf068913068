"""Build explainers, the callback that runs them, and map writers from `explain`; print what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.maps import WriteMaps
from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.options import check_options
from seewhy.reporting.report import print_explanations
from seewhy.reporting.selection import ExplanationSettings
from seewhy.run.build import build
from seewhy.run.folder import conf_dir

__all__ = ["build_explain_callback", "build_explainers", "build_map_writers", "load_explainer_nodes", "print_explained"]

OTHER_OPTIONS = {
    "methods",
    "options",
    "memory_budget",
    "folder",
    "own_maps",
    "after_fit",
    "after_predict",
    "every_n_epochs",
}
"""Keys of `explain` that are not options of `ExplanationSettings`."""


def build_explain_callback(
    config: DictConfig, *, after_fit: bool | None = None, after_predict: bool | None = None
) -> list[Callback]:
    """Build the callback of `explain`; an empty list without methods or without any time to run them.

    Args:
        config: of the job.
        after_fit: replaces `explain.after_fit`.
        after_predict: replaces `explain.after_predict`.
    """
    node = config.get("explain")
    if node is None or not node.methods:
        return []
    times = {
        "after_fit": node.after_fit if after_fit is None else after_fit,
        "after_predict": node.after_predict if after_predict is None else after_predict,
        "every_n_epochs": node.every_n_epochs,
    }
    if not any(times.values()):
        return []
    nodes = load_explainer_nodes(node)
    return [
        ExplainCallback(
            folder=find_explanation_folder(config),
            explainers=build_explainers(nodes),
            options={name: OmegaConf.to_container(options, resolve=True) for name, options in nodes.items()},
            context=_collect_context(config),
            settings=_build_settings(node),
            **times,
        )
    ]


def build_map_writers(config: DictConfig) -> list[WriteMaps]:
    """Build the writer of the maps that the model predicts; an empty list if `explain.own_maps` is null."""
    node = config.explain.own_maps
    if node is None:
        return []
    count = config.explain.max_samples if node.max_samples is None else node.max_samples
    node = OmegaConf.merge(node, {"folder": str(node.folder or find_explanation_folder(config)), "max_samples": count})
    return [build(node, "explain.own_maps")]  # type: ignore[arg-type]


def find_explanation_folder(config: DictConfig) -> Path:
    """Return the parent folder of `explanations/`: `explain.folder`, else the run folder."""
    return Path(config.explain.folder or config.paths.output_dir)


def load_explainer_nodes(node: DictConfig) -> dict[str, DictConfig]:
    """Load method → node of `conf/explainer/<method>.yaml` with the overrides of `explain.options.<method>`.

    Raises:
        ConfigError: methods without a file, or options of unknown methods.
    """
    files = _find_explainer_files()
    methods = list(dict.fromkeys(node.methods))
    problems = [f"{name!r} ({nearest(name, files)})" for name in methods if name not in files]
    if problems:
        raise ConfigError("explain.methods: unknown method " + ", ".join(problems))
    # A run may keep options of methods that this call does not use.
    unknown = [str(name) for name in node.options if name not in files]
    if unknown:
        raise ConfigError(f"explain.options.{unknown[0]}: unknown method; {nearest(unknown[0], files)}")
    nodes = {}
    for name in methods:
        file = OmegaConf.load(files[name])
        if node.memory_budget is not None and "memory_budget" in file:
            file.memory_budget = node.memory_budget
        nodes[name] = cast("DictConfig", OmegaConf.merge(file, node.options.get(name) or {}))
    return nodes


def _find_explainer_files() -> dict[str, Path]:
    """Return method → file: those of the package, replaced by those of `--config-dir` folders."""
    folders = [conf_dir()]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        folders += [Path(source.path) for source in reversed(sources) if source.schema == "file"]
    return {path.stem: path for folder in folders for path in sorted((folder / "explainer").glob("*.yaml"))}


def build_explainers(nodes: dict[str, DictConfig]) -> dict[str, Explainer]:
    """Build explainers from their nodes."""
    return {name: build(node, f"explain.options.{name}") for name, node in nodes.items()}


def _collect_context(config: DictConfig) -> dict[str, Any]:
    """Collect the options that maps depend on besides the weights, as plain data."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return {part: plain[part] for part in ("data", "model")}


def _build_settings(node: DictConfig) -> ExplanationSettings:
    plain: Any = OmegaConf.to_container(node, resolve=True)
    check_options(plain, [*ExplanationSettings.__dataclass_fields__, *OTHER_OPTIONS], "explain")
    return ExplanationSettings(**{key: value for key, value in plain.items() if key not in OTHER_OPTIONS})


def print_explained(trainer: Trainer) -> None:
    """Print what was written, on the first process; every process must call this."""
    console = Console()
    for writer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(writer, WriteMaps) and writer.checkpoint is not None:
            written = int(trainer.strategy.reduce(torch.tensor(writer.written), reduce_op="sum"))
            if trainer.is_global_zero:
                folders = f"{writer.folder / 'attention_maps'}, {writer.folder / 'cam_npy'}"
                console.print(f"the model's own maps of {written} samples: {folders}")
        if isinstance(writer, ExplainCallback) and writer.results:
            print_explanations(writer.results, console)
