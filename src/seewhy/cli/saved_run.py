"""A finished run's configuration as the base of `predict` and `explain`; overrides go on top."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.cli.conf import expand_overrides, store_schemas
from seewhy.errors import ConfigError
from seewhy.run.configs import conf_dir
from seewhy.run.saved_config import read_saved_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["compose_saved", "register_run"]

TRAINING_ONLY = {"callbacks", "ckpt_path", "direction", "logger", "objective", "paths", "phantom", "test", "weights"}
"""Root keys of an experiment that only training uses."""


def register_run(arguments: list[str]) -> list[str]:
    """Put `<run>/config.yaml` into Hydra's store as `saved_run`, where the root config picks it up.

    With `experiment=` in place of `run=` it is that experiment's configuration, for models from elsewhere. Without
    either (e.g. `--help`) an empty configuration is stored.

    Args:
        arguments: of the command line.

    Returns:
        The command line for Hydra, in which `experiment=` is called `from_experiment=`: its configuration is already
        in the store, and processes that Lightning starts are given this line.

    Raises:
        ConfigError: the folder or its `config.yaml` is missing; folders that do hold a run are named.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    arguments = [f"from_{word}" if word.startswith("experiment=") else word for word in arguments]
    experiments = [word.split("=", 1)[1] for word in arguments if word.startswith("from_experiment=")]
    folders = [word.split("=", 1)[1] for word in arguments if word.startswith("run=")]
    config = OmegaConf.create({})
    if folders and folders[-1]:
        path = Path(folders[-1].strip("'\""))
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"run={path} holds no config.yaml; {_known_runs(path)}")
        trusted = [word.split("=", 1)[1] for word in arguments if word.startswith("trust=")]
        config = OmegaConf.create(read_saved_config(path, trust=trusted[-1:] == ["true"]))
    elif experiments and experiments[-1]:
        config = _of_experiment(experiments[-1])
    elif not any(word in ("--help", "-h", "--hydra-help") or word.startswith("--") for word in arguments):
        raise ConfigError(f"run=<run folder> must be given, or experiment=…; {_known_runs(Path('lightning_logs'))}")
    ConfigStore.instance().store(name="saved_run", node=config, package="_global_")
    return arguments


def compose_saved(command: str, run: str | Path | None, *overrides: str) -> DictConfig:
    """The configuration of `predict` or `explain` without running it, for notebooks and tests.

    Args:
        command: `predict` or `explain`.
        run: the run folder; None where `experiment=` is among the overrides.
        overrides: as on the command line, e.g. `data.predict_on=val`.
    """
    from hydra import compose, initialize_config_dir

    store_schemas()
    words = [*([] if run is None else [f"run={run}"]), *overrides]
    words = register_run(words)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose(command, overrides=expand_overrides(words))


def _of_experiment(experiment: str) -> DictConfig:
    """An experiment's configuration in place of a run's, with a folder of its own for what is not the result."""
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from seewhy.cli.conf import compose_train

    config: Any = OmegaConf.to_container(compose_train(f"experiment={experiment}"), resolve=False)
    GlobalHydra.instance().clear()
    logs = Path(config["paths"]["log_dir"]) / "predict" / experiment / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    kept = {key: value for key, value in config.items() if key not in TRAINING_ONLY}
    return OmegaConf.create({**kept, "run": str(logs)})


def _known_runs(near: Path) -> str:
    """The newest run folders, for an error message."""
    root = near if near.is_dir() else Path("lightning_logs")
    found = sorted(root.rglob("config.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    runs = [str(file.parent) for file in found if file.parent.name != ".hydra"]
    return f"newest runs below {root}: " + ", ".join(runs[:3]) if runs else f"there is no run below {root}"
