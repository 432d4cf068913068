"""Compose configurations: the schema of their roots, overrides as Hydra needs them, and finished runs as their base."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.errors import ConfigError
from seewhy.io.checks.sizes import has_file
from seewhy.options import quote_value
from seewhy.run.folder import conf_dir
from seewhy.run.saved_config import read_saved_config
from seewhy_run.names import natural_key

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = [
    "CasesConfig",
    "RunConfig",
    "TrainConfig",
    "check_train_log",
    "compose_saved",
    "compose_train",
    "expand_overrides",
    "expand_runs",
    "register_run",
    "split_override",
    "store_schemas",
]


@dataclass
class TrainConfig:
    """Root keys of a training configuration; Hydra refuses any other, and any of a wrong type."""

    name: str = "default"
    seed: int = 0
    threads: int | None = None
    data: Any = None
    model: Any = None
    phantom: Any = None
    callbacks: Any = None
    explain: Any = None
    trainer: Any = None
    logger: Any = None
    figures: Any = None
    paths: Any = None
    weights: str | None = None
    ckpt_path: str | None = None
    test: bool = True
    objective: str | None = None
    objective_on_test: bool = False
    effective_batch_size: int | None = None
    direction: str | None = None


@dataclass
class RunConfig(TrainConfig):
    """Root keys of `predict`: the configuration of a run, and what to do with the run."""

    run: str = "???"
    use_final: bool = False
    volume: Any = None
    job: Any = None
    from_experiment: str | None = None
    trust: bool = False


@dataclass
class ExplainConfig(RunConfig):
    """Root keys of `explain`."""


@dataclass
class EvaluateConfig(RunConfig):
    """Root keys of `evaluate`."""

    evaluate: Any = None
    runs: Any = None


@dataclass
class CasesConfig(RunConfig):
    """Root keys of `cases`."""

    cases: Any = None


@dataclass
class ExportConfig(RunConfig):
    """Root keys of `export`."""

    format: str = "onnx"
    output: str | None = None


def store_schemas() -> None:
    """Register the root schemas with Hydra."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="run_schema", node=RunConfig)
    store.store(name="explain_schema", node=ExplainConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="cases_schema", node=CasesConfig)


def compose_train(*overrides: str) -> DictConfig:
    """Compose a training configuration without running it, for other commands, notebooks and tests.

    Args:
        overrides: as on the command line, e.g. `experiment=brats`.

    Example:
        >>> from seewhy.cli.compose import compose_train
        >>> config = compose_train("experiment=demo/brats", "trainer.max_epochs=2")
        >>> config.trainer.max_epochs
        2
    """
    from hydra import compose, initialize_config_dir

    store_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("train", overrides=expand_overrides(overrides))


def compose_saved(command: str, run: str | Path | None, *overrides: str) -> DictConfig:
    """Compose the configuration of `predict`, `explain`, `evaluate` or `cases` without running it.

    Args:
        command: its name.
        run: the run folder; None if `experiment=` is among the overrides.
        overrides: as on the command line, e.g. `data.predict_on=val`.
    """
    from hydra import compose, initialize_config_dir

    store_schemas()
    words = [*([] if run is None else [f"run={run}"]), *overrides]
    words = register_run(expand_runs(words) if command == "evaluate" else words)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose(command, overrides=expand_overrides(words))


OVERRIDE = re.compile(r"\s*(?P<sign>\+{0,2}|~)\s*(?P<key>[^\s=+~-][^\s=]*)\s*=(?P<value>.*)", re.DOTALL)
REPLACED = ("data.labels",)
"""Mappings that a user gives as a whole: Hydra would merge them with the keys of the file."""
ADDED = ("explain.options.", "volume.storage_options")
"""Beginnings of options whose keys no file lists: Hydra would refuse new keys."""


def split_override(word: str) -> tuple[str, str, str] | None:
    """Split an override into its sign (`+`, `++`, `~` or nothing), key and value; None for other words.

    Example:
        >>> from seewhy.cli.compose import split_override
        >>> split_override(" +data.labels={HC: 0}")
        ('+', 'data.labels', '{HC: 0}')
        >>> split_override("--config-dir=mine") is None
        True
    """
    match = OVERRIDE.fullmatch(word)
    return None if match is None else (match["sign"], match["key"], match["value"])


def expand_overrides(words: Iterable[str]) -> list[str]:
    """Add the signs that Hydra needs to overrides of open mappings.

    Keys that begin with an entry of `ADDED` get `++`: which options `explain.options.<method>` has depends on the
    method, and the explainer's signature names wrong ones; storage options are fsspec's. A mapping given for a key
    of `REPLACED` replaces the mapping of the file.

    Args:
        words: of the command line.

    Example:
        >>> from seewhy.cli.compose import expand_overrides
        >>> expand_overrides(["seed=1", "explain.options.grad_cam.relu=false"])
        ['seed=1', '++explain.options.grad_cam.relu=false']
        >>> expand_overrides(["data.labels={HC: 0, TLE: 1}"])
        ['~data.labels', '+data.labels={HC: 0, TLE: 1}']
    """
    expanded = []
    for word in words:
        sign, key, value = split_override(word) or ("~", "", "")
        if sign == "~":
            expanded.append(word)
        elif key in REPLACED and value.lstrip().startswith("{"):
            expanded += [f"~{key}", f"+{key}={value}"]
        else:
            expanded.append(f"{'++' if key.startswith(ADDED) else sign}{key}={value}")
    return expanded


def expand_runs(words: Iterable[str]) -> list[str]:
    """Replace `run=<several>` by `run=<the first one>` and the list of all as `runs`.

    Several are a list, `run=[<folder>,<folder>]`, or the folder of a sweep, which stands for its members that have a
    checkpoint.

    Args:
        words: of the command line.

    Raises:
        ConfigError: an empty list.
    """
    expanded = []
    for word in words:
        sign, key, value = split_override(word) or ("~", "", "")
        runs = _list_several_runs(value.strip()) if sign != "~" and key == "run" else None
        if runs is None:
            expanded.append(word)
        else:
            expanded += [f"run={quote_value(runs[0])}", f"runs=[{','.join(map(quote_value, runs))}]"]
    return expanded


def _list_several_runs(value: str) -> list[str] | None:
    """List the folders of several runs; None for a single one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if value.startswith("["):
        try:
            listed = OverridesParser.create().parse_override(f"run={value}").value()
        except HydraException as error:
            raise ConfigError(f"run={value} is not a list of run folders: run=[<folder>,<folder>]") from error
        runs = [str(folder) for folder in listed] if isinstance(listed, list) else []
        if not runs:
            raise ConfigError(f"run={value} names no run folder")
        return runs
    folder = Path(_unquote(value))
    if not value or (folder / "config.yaml").exists():
        return None
    members = [path.parent.parent for path in folder.glob("*/checkpoints/*.ckpt")]
    members = [member for member in dict.fromkeys(members) if (member / "config.yaml").is_file()]
    return [str(member) for member in sorted(members, key=lambda member: natural_key(member.name))] or None


def check_train_log(words: Iterable[str]) -> None:
    """Check the log in the folder that `hydra.run.dir` names, which Hydra opens before seewhy runs.

    Raises:
        DataError: a pipe, a folder, a device, or a link to nothing.
    """
    for word in words:
        _, key, value = split_override(word) or ("", "", "")
        if key == "hydra.run.dir" and "${" not in value:
            has_file(Path(_unquote(value.strip())) / "train.log")


TRAINING_ONLY = {
    "callbacks", "ckpt_path", "direction", "effective_batch_size", "figures", "logger", "objective",
    "objective_on_test", "paths", "phantom", "test", "weights",
}  # fmt: skip
"""Root keys of an experiment that only training uses."""


def register_run(arguments: Iterable[str]) -> list[str]:
    """Put `<run>/config.yaml` into Hydra's store as `saved_run`, which the root configs include.

    With `experiment=` instead of `run=` it is the configuration of that experiment, for models from elsewhere. Without
    either (e.g. `--help`) an empty configuration is stored.

    Args:
        arguments: of the command line.

    Returns:
        The command line for Hydra, in which `experiment=` is called `from_experiment=`: its configuration is already
        in the store, and the processes that Lightning starts are given this line.

    Raises:
        ConfigError: the folder or its `config.yaml` is missing (existing run folders are listed), or a run and an
            experiment are both given.
        DataError: the log in the folder is not a file.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    words, given, choices = [], set(), {"run": "", "from_experiment": "", "trust": ""}
    for word in arguments:
        sign, key, value = split_override(word) or ("~", "", "")
        if sign != "~" and key == "experiment":
            key, word = "from_experiment", f"{sign}from_experiment={value}"
        given |= {key} if sign != "~" else set()
        if sign != "~" and key in choices:
            choices[key] = value.strip()
        words.append(word)
    if choices["run"] and choices["from_experiment"]:
        raise ConfigError(
            f"run={choices['run']} and experiment={choices['from_experiment']} exclude each other: a run has its own "
            "configuration, whose options can be overridden one by one"
        )
    if choices["run"]:
        run = Path(_unquote(choices["run"]))
        if not (run / "config.yaml").is_file():
            raise ConfigError(f"run={run} holds no config.yaml; {_list_runs(run)}")
        has_file(run / "after.log")  # Hydra opens it, and would wait for a pipe
        config = OmegaConf.create(read_saved_config(run, trust=choices["trust"] == "true", given=given))
    elif choices["from_experiment"]:
        config = _compose_experiment(choices["from_experiment"])
    elif any(word == "-h" or word.startswith("--") for word in words):
        config = OmegaConf.create({})
    else:
        raise ConfigError(f"run=<run folder> must be given, or experiment=…; {_list_runs(Path('lightning_logs'))}")
    ConfigStore.instance().store(name="saved_run", node=config, package="_global_")
    return words


def _unquote(value: str) -> str:
    """Text of a value as Hydra reads it, with or without quotes around it."""
    quote = value[:1]
    if quote not in ("'", '"') or len(value) < 2 or not value.endswith(quote):
        return value
    return re.sub(rf"(\\+)({quote}|$)", lambda match: match[1][: len(match[1]) // 2] + match[2], value[1:-1])


def _compose_experiment(experiment: str) -> DictConfig:
    """Compose an experiment in place of a run, with a new folder for whatever the command writes."""
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(compose_train(f"experiment={experiment}"), resolve=False)
    GlobalHydra.instance().clear()
    logs = Path(config["paths"]["log_dir"]) / "predict" / experiment / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    kept = {key: value for key, value in config.items() if key not in TRAINING_ONLY}
    return OmegaConf.create({**kept, "run": str(logs)})


def _list_runs(folder: Path) -> str:
    """List the newest run folders below a folder, for an error message."""
    root = folder if folder.is_dir() else Path("lightning_logs")
    files = sorted(root.rglob("config.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    runs = [str(file.parent) for file in files if not {".hydra", "earlier"} & set(file.parts)]
    return f"newest runs below {root}: " + ", ".join(runs[:3]) if runs else f"no run below {root}"
