"""Facts of a run for its page: choices, hashes, versions, and the command that repeats it, read as data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seewhy.errors import ConfigError, DataError
from seewhy.figures.report.blocks import Block, Code, Facts, Section, Text
from seewhy.io.documents import read_json
from seewhy.run.records import read_overrides
from seewhy.run.saved_config import load_plain_yaml

__all__ = ["RunFacts", "describe_run", "read_facts"]

HIGHLIGHTS = {
    "data": "data._target_",
    "data folder": "data.root",
    "fold": "data.fold",
    "batch size": "data.batch_size",
    "model": "model._target_",
    "encoder": "model.encoder.name",
    "network": "model.network.name",
    "pretrained": "model.pretrained",
    "weights": "weights",
    "loss": "model.loss.name",
    "optimizer": "model.optimizer.name",
    "learning rate": "model.optimizer.lr",
    "epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "precision": "trainer.precision",
    "devices": "trainer.devices",
    "seed": "seed",
}
"""Name on the page → option; options that are missing, null or -1 are left out."""
HASH = 16
"""Digits of a hash on the page."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run folder records about how the run was made.

    Attributes:
        config: the resolved configuration; empty if the folder has none.
        code: version, commit, and hashes of split and data, as recorded.
        split: `split.json`; empty if the folder has none.
        command: words after `train.py`; empty if they were not recorded.
    """

    config: Mapping[str, Any]
    code: Mapping[str, Any]
    split: Mapping[str, Any]
    command: Mapping[str, str]


def read_facts(folder: Path) -> RunFacts:
    """Read configuration, split and overrides of a run folder; nothing that they name is imported or built.

    Raises:
        ConfigError: the configuration cannot be read as plain YAML.
        DataError: another record is damaged.
    """
    record: Any = load_plain_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    record = record if isinstance(record, dict) else {}
    split = read_json(folder / "split.json") if (folder / "split.json").is_file() else {}
    try:
        command = read_overrides(folder)
    except (ConfigError, DataError):
        command = {}
    config, code = record.get("config"), record.get("seewhy")
    return RunFacts(
        config=config if isinstance(config, dict) else {}, code=code if isinstance(code, dict) else {}, split=split,
        command=command,
    )  # fmt: skip


def describe_run(facts: RunFacts, results: Mapping[str, Any]) -> Section:
    """The section "What ran" of a page.

    Args:
        facts: of the run folder.
        results: of `results.json`.
    """
    blocks: list[Block] = []
    if facts.command:
        words = [f"{name}={value}" for name, value in facts.command.items()]
        blocks += [Text("The command that repeats this run:"), Code(f"python train.py {shlex.join(words)}")]
    values = {name: value for name, option in HIGHLIGHTS.items() if (value := _find(facts.config, option)) is not None}
    values |= _describe_split(facts.split)
    values |= {f"hash of the {name}": _shorten(facts.code.get(name)) for name in ("split", "data")}
    values["hash of the tested checkpoint"] = _shorten(results.get("checkpoint"))
    versions = {"seewhy": facts.code.get("version"), "commit": facts.code.get("commit"), **results.get("versions", {})}
    values["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    shown = {name: value for name, value in values.items() if value}
    if shown:
        blocks.append(Facts(shown))
    if facts.config:
        text = yaml.safe_dump(dict(facts.config), sort_keys=False, allow_unicode=True)
        blocks.append(Code(text, "the whole configuration (config.yaml)"))
    return Section("What ran", blocks or [Text("The folder has no configuration.")])


def _find(config: Mapping[str, Any], option: str) -> str | None:
    """Value of a dotted option as text; of a class, its last name."""
    value: Any = config
    for key in option.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value in (-1, "") or isinstance(value, Mapping):
        return None
    return str(value).rpartition(".")[2] if option.endswith("_target_") else str(value)


def _describe_split(split: Mapping[str, Any]) -> dict[str, str]:
    parts = {name: split[name] for name in ("train", "val", "test") if isinstance(split.get(name), list)}
    counts = ", ".join(f"{len(names)} {name}" for name, names in parts.items())
    made = split.get("made")
    by = f", made by {made['by']}" if isinstance(made, dict) and "by" in made else ""
    return {"split by patient": counts + by} if counts else {}


def _shorten(value: object) -> str:
    return str(value)[:HASH] if value else ""
