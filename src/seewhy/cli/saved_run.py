"""A finished run's configuration as the base of `predict` and `explain`; overrides go on top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seewhy.cli.conf import opened, store_schemas
from seewhy.errors import ConfigError
from seewhy.run.configs import conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["compose_saved", "register_run"]

TRAINING_ONLY = {"callbacks", "ckpt_path", "direction", "logger", "objective", "paths", "phantom", "test", "weights"}
"""Root keys of a run that mean nothing afterwards."""


def register_run(arguments: list[str]) -> None:
    """Put `<run>/config.yaml` into Hydra's store as `saved_run`, where the root config picks it up.

    Without `run=` (e.g. `--help`) an empty configuration is stored.

    Raises:
        ConfigError: the folder or its `config.yaml` is missing; folders that do hold a run are named.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    folders = [word.split("=", 1)[1] for word in arguments if word.startswith("run=")]
    config = OmegaConf.create({})
    if folders and folders[-1]:
        path = Path(folders[-1].strip("'\""))
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"run={path} holds no config.yaml; {_known_runs(path)}")
        record = OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))
        config = OmegaConf.create(_for_later(record, path))
    elif not any(word in ("--help", "-h", "--hydra-help") or word.startswith("--") for word in arguments):
        raise ConfigError(f"run=<run folder> must be given; {_known_runs(Path('lightning_logs'))}")
    ConfigStore.instance().store(name="saved_run", node=config, package="_global_")


def compose_saved(command: str, run: str | Path, *overrides: str) -> DictConfig:
    """The configuration of `predict` or `explain` without running it, for notebooks and tests.

    Args:
        command: `predict` or `explain`.
        run: the run folder.
        overrides: as on the command line, e.g. `data.predict_on=val`.
    """
    from hydra import compose, initialize_config_dir

    store_schemas()
    words = [f"run={run}", *overrides]
    register_run(words)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose(command, overrides=opened(words))


def _for_later(record: Any, path: Path) -> dict[str, Any]:
    """The part of a run's record that `predict` and `explain` build on: all but what only training needs."""
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(config, dict):
        raise ConfigError(f"{path / 'config.yaml'} is no record of a run of ours: it has no `config`")
    return {key: value for key, value in config.items() if key not in TRAINING_ONLY}


def _known_runs(near: Path) -> str:
    """The newest run folders, for an error message."""
    root = near if near.is_dir() else Path("lightning_logs")
    found = sorted(root.rglob("config.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    runs = [str(file.parent) for file in found if file.parent.name != ".hydra"]
    return f"newest runs below {root}: " + ", ".join(runs[:3]) if runs else f"there is no run below {root}"
