"""Read the configuration of a MONAI bundle as data: references are looked up, expressions are never evaluated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from seewhy.errors import CheckpointError, DataError
from seewhy.io.documents import read_json, read_text

__all__ = ["BundleConfig", "find_config", "read_metadata"]

REFERENCE = re.compile(r"@(?P<path>[\w.-]+(?:(?:#|::)[\w.-]+)*)")
"""A reference to a value: names from the root, separated by `#` or `::`."""
NAMES = ("inference", "evaluate", "train")
"""Configurations that are looked for, in order."""


class BundleConfig:
    """Contents of a configuration whose values are looked up on demand.

    Args:
        file: JSON or YAML.
        metadata: contents of `metadata.json`, which `@_meta_#…` names.

    Raises:
        CheckpointError: the file cannot be read, or is not a mapping.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("net.json").write_text('{"classes": 3, "network_def": {"out_channels": "@classes"}}')
        >>> BundleConfig(Path("net.json"), {}).read("network_def")
        {'out_channels': 3}
    """

    def __init__(self, file: Path, metadata: dict[str, Any]) -> None:
        self.file = file
        try:
            self.text = read_text(file)
            content = json.loads(self.text) if file.suffix == ".json" else _parse_yaml(self.text, file)
        except (DataError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise CheckpointError(f"{file} cannot be read as a configuration: {_first_line(error)}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{file} holds {type(content).__name__}; expected a mapping")
        self.content: dict[str, Any] = {**content, "_meta_": metadata}

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str) -> Any:
        """Entry of the root as it is written; None if it is missing."""
        return self.content.get(key)

    def read(self, key: str) -> Any:
        """Entry of the root with all references replaced by the values that they name.

        Raises:
            CheckpointError: no such entry; or an expression (`$…`), a macro (`%…`), or a reference to anything but a
                value in it. The message names the line and the key.
        """
        if key not in self.content:
            raise CheckpointError(f"{self.file} has no entry {key!r}")
        return self.resolve(self.content[key], key)

    def resolve(self, value: Any, key: str, *, through: tuple[str, ...] = ()) -> Any:
        """Replace the references in a value.

        Args:
            value: plain data of the file.
            key: its place, for messages.
            through: references that led here.
        """
        if isinstance(value, dict):
            return {name: self.resolve(item, f"{key}#{name}", through=through) for name, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, f"{key}#{i}", through=through) for i, item in enumerate(value)]
        if not isinstance(value, str) or value[:1] not in ("$", "@", "%"):
            return value
        match = REFERENCE.fullmatch(value)
        if match is None:
            kind = {"$": "an expression", "%": "a macro"}.get(value[0], "a reference with a calculation")
            raise self.refuse(key, value, f"is {kind}, which is never evaluated; write the value itself there")
        path = re.split("#|::", match["path"])
        if value in through:
            raise self.refuse(key, value, "refers to itself")
        return self.resolve(self._find(path, key, value), "#".join(path), through=(*through, value))

    def _find(self, path: list[str], key: str, value: str) -> Any:
        place: Any = self.content
        for name in path:
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and name.isdecimal() and int(name) < len(place):
                place = place[int(name)]
            else:
                raise self.refuse(key, value, "names no value of the file")
        return place

    def refuse(self, key: str, value: Any, reason: str) -> CheckpointError:
        """Error about an entry, with the line on which it stands.

        Args:
            key: place of the entry.
            value: as it is written.
            reason: what is wrong, as the rest of a sentence.
        """
        written = json.dumps(value).strip('"')
        lines = self.text.splitlines()
        found = next((i for i, line in enumerate(lines, start=1) if written in line or str(value) in line), None)
        where = f"{self.file}, line {found}" if found else str(self.file)
        return CheckpointError(f"{where}: {key} = {str(value)[:80]!r} {reason}")


def _parse_yaml(text: str, file: Path) -> Any:
    """Parse YAML without aliases, of which few can describe a huge document."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise CheckpointError(f"{file} has aliases (*name), which are not read; write the values out")
    return yaml.safe_load(text)


def find_config(folder: Path) -> Path:
    """The configuration of a bundle that describes its network.

    Raises:
        CheckpointError: none.
    """
    for name in NAMES:
        for ending in ("json", "yaml", "yml"):
            if (file := folder / "configs" / f"{name}.{ending}").is_file():
                return file
    raise CheckpointError(
        f"{folder} has no configs/inference.json (or .yaml); give the folder of a MONAI bundle, with configs and models"
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """Contents of `configs/metadata.json`; empty if the bundle has none."""
    file = folder / "configs" / "metadata.json"
    return dict(read_json(file, raises=CheckpointError)) if file.is_file() else {}


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
