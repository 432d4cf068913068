"""List the runs of a comparison, and compose the configuration of each with the overrides of the command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError
from seewhy.options import flatten_options
from seewhy.run.build import to_plain_data
from seewhy.run.records import read_overrides
from seewhy.run.saved_config import ROOT_KEYS, load_plain_yaml, read_saved_config
from seewhy.run.sweeps.table import find_varied

__all__ = ["ComparedRun", "list_compared_runs", "name_methods"]

PLACES = ("data.a", "data.b", "data.root", "data.val_patients", "data.test_patients", "data.train_patients")
"""Options that say which scans a run has seen, not how it harmonises them."""
NAMING = ("seed", "model.", "data.", "trainer.")
"""Beginnings of options that can make runs of one model differ; folders and loggers cannot."""


@dataclass(frozen=True)
class ComparedRun:
    """A run that harmonises the scans of one scanner.

    Attributes:
        folder: of the run.
        method: name of its row.
        scanner: folder of domain a, which it translates to the reference scanner.
        config: of this run, with the overrides of the command.
    """

    folder: Path
    method: str
    scanner: str
    config: DictConfig


def list_compared_runs(config: DictConfig) -> list[ComparedRun]:
    """List the runs of `config.runs`.

    Args:
        config: composed for the first run.

    Raises:
        ConfigError: runs without a domain a, of different data sets or reference scanners, or two runs of one method
            and scanner.
    """
    folders = [Path(folder) for folder in config.runs]
    changed = _find_overrides(config, folders[0])
    methods = name_methods(folders)
    members, problems = [], []
    for folder, method in zip(folders, methods, strict=True):
        own = _compose(config, folder, changed)
        scanner = own.data.get("a")
        if scanner is None or own.data.get("b") is None:
            problems.append(f"{folder} has no domain a or b to compare")
        members.append(ComparedRun(folder, method, str(scanner), own))
    places = {(str(member.config.data.root), str(member.config.data.b)) for member in members}
    if len(places) > 1:
        listed = ", ".join(f"data.root={root} data.b={b}" for root, b in sorted(places))
        problems.append(f"runs of one table need one data set and one reference scanner; there are {listed}")
    twice = [key for key, count in Counter((m.method, m.scanner) for m in members).items() if count > 1]
    problems += [f"two runs of {method} harmonise {scanner}; leave one out" for method, scanner in twice]
    if problems:
        raise ConfigError("; ".join(problems))
    return members


def name_methods(folders: Sequence[Path]) -> list[str]:
    """Name the method of each run: its choice of `model`, and the overrides in which runs differ, apart from the scans.

    Args:
        folders: run folders. One that Hydra did not make is named like its folder.
    """
    rows: list[dict[str, Any]] = [{"member": folder.name, **read_overrides(folder)} for folder in folders]
    varied = [name for name in find_varied(rows) if name.startswith(NAMING) and name not in PLACES]
    return [
        " ".join([_read_model(folder), *(f"{name}={row[name]}" for name in varied if name in row)])
        for folder, row in zip(folders, rows, strict=True)
    ]


def _read_model(folder: Path) -> str:
    """Read the choice of the group `model` in Hydra's record of a run; the folder's name without one."""
    path = folder / ".hydra" / "hydra.yaml"
    record: Any = load_plain_yaml(path) if path.is_file() else {}
    for key in ("hydra", "runtime", "choices", "model"):
        record = record.get(key) if isinstance(record, dict) else None
    return record if isinstance(record, str) else folder.name


def _compose(config: DictConfig, folder: Path, changed: Mapping[str, Any]) -> DictConfig:
    """Compose the configuration of one run: that of the first with the saved parts of this run, then overrides."""
    saved = read_saved_config(folder, trust=bool(config.trust), given=set(changed))
    own: dict[Any, Any] = {str(key): config._get_node(key) for key in config if key not in ROOT_KEYS}
    composed = OmegaConf.create({**own, **{key: saved.get(key) for key in ROOT_KEYS if key in config}})
    composed.run, composed.runs = str(folder), None
    for key, value in changed.items():
        OmegaConf.update(composed, key, value, force_add=True)
    return composed


def _find_overrides(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Find what the command line has changed in the saved configuration of the first run."""
    saved = read_saved_config(folder, trust=bool(config.trust), given=list(flatten_options(to_plain_data(config))))
    before = flatten_options(to_plain_data(OmegaConf.create(saved)))
    after = flatten_options(to_plain_data(OmegaConf.masked_copy(config, [key for key in ROOT_KEYS if key in config])))
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
