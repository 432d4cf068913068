"""Explanations of a configuration: explainers, their callback and map writers, their checks, and what they wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.maps import WriteMaps
from seewhy.data.base import BaseDataModule
from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.explain.capture.layers import find_unknown_parts
from seewhy.io.checks.sizes import find_file_problems
from seewhy.models.protocols import DescribesItself, PreparesExplanation
from seewhy.option_types import MemorySize, NonNegativeInt
from seewhy.options import collect_problem, parse_options
from seewhy.reporting.regions import check_patients
from seewhy.reporting.report import print_explanations
from seewhy.reporting.selection import ExplanationSettings, TargetChoice
from seewhy.run.build import build
from seewhy.run.folder import conf_dir

__all__ = [
    "build_explain_callback",
    "build_explainers",
    "build_map_writers",
    "check_explained",
    "check_explanations",
    "find_explanation_folder",
    "load_explainer_nodes",
    "print_explained",
]


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(ExplanationSettings):
    """All options of `explain`, as they are in conf/explain/default.yaml."""

    methods: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    memory_budget: MemorySize | None = None
    folder: str | None = None
    own_maps: Mapping[str, Any] | None = None
    after_fit: bool = True
    after_predict: bool = False
    every_n_epochs: NonNegativeInt = 0


def read_explain_options(node: DictConfig) -> ExplainOptions:
    """Read the options of `explain` except for those of its methods.

    Raises:
        ConfigError: unknown options, or values of wrong types.
    """
    return parse_options(ExplainOptions, OmegaConf.to_container(node, resolve=True), where="explain")


def build_explain_callback(
    config: DictConfig,
    *,
    after_fit: bool | None = None,
    after_predict: bool | None = None,
    lease: float | None = None,
) -> list[Callback]:
    """Build the callback of `explain`; an empty list without methods or without any time to run them.

    Args:
        config: of the job.
        after_fit: replaces `explain.after_fit`.
        after_predict: replaces `explain.after_predict`.
        lease: see `ExplainCallback`.
    """
    node = config.get("explain")
    if node is None or not node.methods:
        return []
    options = read_explain_options(node)
    fit = options.after_fit if after_fit is None else after_fit
    predict = options.after_predict if after_predict is None else after_predict
    if not (fit or predict or options.every_n_epochs):
        return []
    nodes = load_explainer_nodes(node)
    return [
        ExplainCallback(
            folder=find_explanation_folder(config),
            explainers=build_explainers(nodes),
            options={name: OmegaConf.to_container(options, resolve=True) for name, options in nodes.items()},
            context=_collect_context(config),
            settings=options,
            after_fit=fit,
            after_predict=predict,
            every_n_epochs=options.every_n_epochs,
            lease=lease,
            title=str(config.get("name") or ""),
        )
    ]


def check_explained(
    callbacks: Sequence[Callback],
    model: LightningModule,
    datamodule: BaseDataModule,
    parts: Sequence[str] | None = None,
) -> None:
    """Check the classes, layers, samples and files that `explain` names, before a command that would end with an error.

    Args:
        callbacks: of the Trainer.
        model: built.
        datamodule: of the command; for a training, set up for a fit.
        parts: of the data that will be explained; None: those of a training.

    Raises:
        ConfigError: all of them that do not exist.
    """
    for callback in callbacks:
        if isinstance(callback, ExplainCallback):
            trained = ["val"] * (callback.every_n_epochs > 0) + ["test"] * callback.after_fit
            chosen = trained if parts is None else parts
            check_explanations(callback.settings, callback.explainers, model, datamodule, chosen)


def build_map_writers(config: DictConfig) -> list[WriteMaps]:
    """Build the writer of the maps that the model predicts; an empty list if `explain.own_maps` is null."""
    node = find_map_writer(config)
    return [] if node is None else [build(node, "explain.own_maps")]


def find_map_writer(config: DictConfig) -> DictConfig | None:
    """Return the node of `explain.own_maps` with the folder and number of samples of `explain`, if it has none."""
    node = config.explain.own_maps
    if node is None:
        return None
    count = config.explain.max_samples if node.max_samples is None else node.max_samples
    extra = {"folder": str(node.folder or find_explanation_folder(config)), "max_samples": count}
    return cast("DictConfig", OmegaConf.merge(node, extra))


def find_explanation_folder(config: DictConfig) -> Path:
    """Return the parent folder of `explanations/`: `explain.folder`, else the run folder."""
    return Path(config.explain.folder or config.paths.output_dir)


def load_explainer_nodes(node: DictConfig, *, all_options: bool = False) -> dict[str, DictConfig]:
    """Load method → node of `conf/explainer/<method>.yaml` with the overrides of `explain.options.<method>`.

    Args:
        node: the options `explain`.
        all_options: load also the methods that only `explain.options` names, to check what they are given.

    Raises:
        ConfigError: methods without a file, or options of unknown methods.
    """
    files = _find_explainer_files()
    if "options" not in node:
        raise ConfigError("~explain removes only the defaults of explain; to explain nothing: explain.methods=[]")
    methods = [node.methods] if isinstance(node.methods, str) else list(dict.fromkeys(node.methods))
    problems = [f"{name!r} ({nearest(name, files)})" for name in methods if name not in files]
    if problems:
        raise ConfigError("explain.methods: unknown method " + ", ".join(problems))
    # A run may keep options of methods that this call does not use.
    unknown = [str(name) for name in node.options if name not in files]
    if unknown:
        raise ConfigError(f"explain.options.{unknown[0]}: unknown method; {nearest(unknown[0], files)}")
    nodes = {}
    for name in dict.fromkeys([*methods, *(map(str, node.options) if all_options else ())]):
        file = OmegaConf.load(files[name])
        if node.memory_budget is not None and "memory_budget" in file:
            file.memory_budget = node.memory_budget
        options = {} if node.options.get(name) is None else node.options[name]
        if not OmegaConf.is_dict(options) and options != {}:
            raise ConfigError(f"explain.options.{name}={options!r} must be a mapping from option names to values")
        nodes[name] = cast("DictConfig", OmegaConf.merge(file, options))
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


def print_explained(trainer: Trainer) -> None:
    """Print what was written, on the first process; every process must call this."""
    console = Console()
    for writer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(writer, WriteMaps) and writer.checkpoint is not None:
            written = int(trainer.strategy.reduce(torch.tensor(writer.written), reduce_op="sum"))
            if trainer.is_global_zero:
                folders = f"{writer.folder / 'attention_maps'}, {writer.folder / 'cam_npy'}"
                console.print(f"the model's own maps of {written} samples: {folders}", soft_wrap=True)
        if isinstance(writer, ExplainCallback) and writer.results:
            print_explanations(writer.results, console)
        if isinstance(writer, ExplainCallback) and writer.shared is not None:
            shared = writer.shared
            console.print(
                f"this process: {shared.explained} of {len(shared.chosen)} samples, {shared.taken_over} tasks of lost "
                f"processes, {shared.waited:.1f} s waiting for others",
                highlight=False,
                soft_wrap=True,
            )
            if not writer.results:
                console.print(f"another process has written {writer.folder}", highlight=False, soft_wrap=True)


def check_explanations(
    settings: ExplanationSettings,
    explainers: Mapping[str, Explainer],
    module: nn.Module,
    datamodule: BaseDataModule,
    parts: Sequence[str],
) -> None:
    """Check that classes, layers, samples and files exist which the options name.

    A model that is explained by another module, which it makes for each batch, has its classes and layers only then.

    Args:
        settings: samples, targets and files.
        explainers: method name → explainer.
        module: the model.
        datamodule: of the command.
        parts: of the data that will be explained: `val`, `test` or `predict`.

    Raises:
        ConfigError: all of them that do not exist, each with the nearest.
    """
    problems = []
    if isinstance(module, DescribesItself) and not isinstance(module, PreparesExplanation):
        about = module.explainable()
        if about.classes:
            problems += collect_problem(
                partial(TargetChoice, settings.target, about, classes=max(len(about.classes), 2))
            )
        for name, explainer in explainers.items():
            unknown = find_unknown_parts(module, explainer.chosen_parts())
            problems += [f"explain.options.{name}: {problem}" for problem in unknown]
    choice = settings.choice()
    if choice.ids is not None:
        problems += [
            line for part in parts for line in collect_problem(partial(choice.by_name, datamodule.sample_ids(part)))
        ]
    if settings.region_alpha is not None:
        problems += collect_problem(partial(_check_region_option, settings.region_alpha, module, datamodule, parts))
    if settings.atlas is not None:
        remedy = "give a file of labels, or explain.atlas=null"
        problems += [f"explain.atlas={problem}" for problem in find_file_problems(settings.atlas, remedy)]
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))


def _check_region_option(alpha: float, module: nn.Module, datamodule: BaseDataModule, parts: Sequence[str]) -> None:
    """Check that regions can be calibrated on validation patients that are not explained."""
    if isinstance(module, PreparesExplanation):
        raise ConfigError(
            f"explain.region_alpha={alpha} is for models that predict classes, and {type(module).__name__} predicts "
            "none; use explain.region_alpha=null"
        )
    if "val" in parts or ("predict" in parts and datamodule.predict_on in ("val", "all")):
        raise ConfigError(
            f"explain.region_alpha={alpha} calibrates on validation patients, which are explained here; explain test "
            "samples (data.predict_on=test, explain.every_n_epochs=0), or use explain.region_alpha=null"
        )
    check_patients(alpha, len(datamodule.split.val))
