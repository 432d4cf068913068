"""The schema of a configuration's root, and composing configurations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seewhy.run.configs import conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["CasesConfig", "RunConfig", "TrainConfig", "compose_train", "expand_overrides", "store_schemas"]


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
    paths: Any = None
    weights: str | None = None
    ckpt_path: str | None = None
    test: bool = True
    objective: str | None = None
    direction: str = "maximize"


@dataclass
class RunConfig(TrainConfig):
    """Root keys of `predict` and `explain`: a run's own configuration, and what to do with it."""

    run: str = "???"
    use_final: bool = False
    volume: Any = None
    from_experiment: str | None = None
    trust: bool = False


@dataclass
class EvaluateConfig(RunConfig):
    """Root keys of `evaluate`."""

    evaluate: Any = None


@dataclass
class CasesConfig(RunConfig):
    """Root keys of `cases`."""

    cases: Any = None


def compose_train(*overrides: str) -> DictConfig:
    """A training configuration without running it, for other commands, notebooks and tests.

    Args:
        overrides: as on the command line, e.g. `experiment=brats`.
    """
    from hydra import compose, initialize_config_dir

    store_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("train", overrides=expand_overrides(overrides))


REPLACED = ("data.labels={",)
"""Mappings that a user gives whole: Hydra would keep the keys of the file beside them."""
ADDED = ("explain.options.", "volume.storage_options")
"""Mappings whose keys no file lists: Hydra would refuse new ones."""


def expand_overrides(words: Iterable[str]) -> list[str]:
    """Overrides as Hydra has to be told what users mean by them.

    What begins like one of `ADDED` gets a `++`: `explain.options.<method>.<option>`, since which there are depends on
    the methods, and the explainers' signatures say what is wrong with them; and what fsspec takes. A mapping of
    `REPLACED` takes the file's place.

    Args:
        words: of the command line.
    """
    told = []
    for word in words:
        if word.startswith(REPLACED):
            told += [f"~{word.partition('=')[0]}", f"+{word}"]
        else:
            told.append(f"++{word}" if word.startswith(ADDED) else word)
    return told


def store_schemas() -> None:
    """Give Hydra the root schemas."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="run_schema", node=RunConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="cases_schema", node=CasesConfig)
