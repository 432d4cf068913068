"""From `explain` in the configuration to the callbacks that explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback
from omegaconf import DictConfig, OmegaConf

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.maps import WriteMaps
from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.options import check_options
from seewhy.reporting.selection import ExplanationSettings
from seewhy.run.build import build
from seewhy.run.configs import conf_dir

__all__ = ["build_explain_callback", "build_explainers", "build_own_maps", "explainer_nodes"]

ELSEWHERE = {
    "methods",
    "options",
    "memory_budget",
    "folder",
    "own_maps",
    "after_fit",
    "after_predict",
    "every_n_epochs",
}
"""Keys of `explain` that are no options of `ExplanationSettings`."""


def build_explain_callback(
    config: DictConfig, *, after_fit: bool | None = None, after_predict: bool | None = None
) -> list[Callback]:
    """The callback of `explain`, if it names methods and any moment to run them.

    Args:
        config: the job's configuration.
        after_fit: instead of `explain.after_fit`.
        after_predict: instead of `explain.after_predict`.
    """
    node = config.get("explain")
    if node is None or not node.methods:
        return []
    moments = {
        "after_fit": node.after_fit if after_fit is None else after_fit,
        "after_predict": node.after_predict if after_predict is None else after_predict,
        "every_n_epochs": node.every_n_epochs,
    }
    if not any(moments.values()):
        return []
    nodes = explainer_nodes(node)
    return [
        ExplainCallback(
            folder=explanation_folder(config),
            explainers=build_explainers(nodes),
            options={name: OmegaConf.to_container(one, resolve=True) for name, one in nodes.items()},
            context=_context(config),
            settings=_settings(node),
            **moments,
        )
    ]


def build_own_maps(config: DictConfig) -> list[WriteMaps]:
    """The writer of maps that the model itself predicts, where `explain.own_maps` describes one."""
    node = config.explain.own_maps
    if node is None:
        return []
    count = config.explain.max_samples if node.max_samples is None else node.max_samples
    node = OmegaConf.merge(node, {"folder": str(node.folder or explanation_folder(config)), "max_samples": count})
    return [build(node, "explain.own_maps")]  # type: ignore[arg-type]


def explanation_folder(config: DictConfig) -> Path:
    """Where `explanations/` is made: `explain.folder`, else the run folder."""
    return Path(config.explain.folder or config.paths.output_dir)


def explainer_nodes(node: DictConfig) -> dict[str, DictConfig]:
    """Method → the node of `conf/explainer/<method>.yaml` with `explain.options.<method>` on top.

    Raises:
        ConfigError: methods that no file describes, or options of methods that are not named.
    """
    files = _explainer_files()
    known = list(files)
    methods = list(dict.fromkeys(node.methods))
    problems = [f"{name!r} ({nearest(name, known)})" for name in methods if name not in known]
    if problems:
        raise ConfigError("explain.methods: there is no " + ", ".join(problems))
    # Options of a method that is not named are a run's own, for another time.
    stray = [str(name) for name in node.options if name not in known]
    if stray:
        raise ConfigError(f"explain.options.{stray[0]}: there is no such method; {nearest(stray[0], known)}")
    nodes = {}
    for name in methods:
        file = OmegaConf.load(files[name])
        if node.memory_budget is not None and "memory_budget" in file:
            file.memory_budget = node.memory_budget
        merged = OmegaConf.merge(file, node.options.get(name) or {})
        assert isinstance(merged, DictConfig)
        nodes[name] = merged
    return nodes


def _explainer_files() -> dict[str, Path]:
    """Method → its file: the package's own, and those of folders given by `--config-dir`, which come before."""
    folders = [conf_dir()]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        folders += [Path(one.path) for one in reversed(sources) if one.schema == "file"]
    return {path.stem: path for folder in folders for path in sorted((folder / "explainer").glob("*.yaml"))}


def build_explainers(nodes: dict[str, DictConfig]) -> dict[str, Explainer]:
    """The explainers of nodes, every wrong option named."""
    return {name: build(node, f"explain.options.{name}") for name, node in nodes.items()}


def _context(config: DictConfig) -> dict[str, Any]:
    """What maps depend on besides the weights, as plain data."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return {part: plain[part] for part in ("data", "model")}


def _settings(node: DictConfig) -> ExplanationSettings:
    plain: Any = OmegaConf.to_container(node, resolve=True)
    check_options(plain, [*ExplanationSettings.__dataclass_fields__, *ELSEWHERE], "explain")
    return ExplanationSettings(**{key: value for key, value in plain.items() if key not in ELSEWHERE})
