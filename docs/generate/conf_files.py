"""Read the yaml files of `conf/` with their comments, and find what each option means.

The meaning of an option is the first of these: the comment on its line; its entry under `Args` in the docstring of the
class or function that `_target_` names; the comment of the same option in a file that this one takes in, then in any
other file (an experiment only changes options that `conf/data` or `conf/model` describe).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path

import griffe
import yaml

__all__ = ["ConfFile", "Option", "find_meaning", "is_agent_file", "read_conf"]

ROOT = Path(__file__).resolve().parents[2]
GENERAL = {
    "_target_": "class or function that is built with the options next to it",
    "_convert_": "`all`: pass plain lists and dicts, so that a checkpoint holds plain data",
    "_partial_": "`true`: pass the function itself, without calling it",
}


@dataclass(frozen=True)
class Option:
    """A key of a configuration file.

    Args:
        name: dotted name within the file.
        default: its value as it is written, "" for a mapping whose keys follow.
        comment: the comment on its line, else "".
        target: dotted name of the class or function that takes it, else "".
    """

    name: str
    default: str
    comment: str
    target: str = ""


@dataclass(frozen=True)
class ConfFile:
    """A yaml file of `conf/`."""

    path: Path
    about: str
    parents: tuple[str, ...]
    options: tuple[Option, ...] = field(repr=False)
    is_global: bool = False

    @property
    def group(self) -> str:
        """First folder below `conf/`; "" for the root configurations."""
        return self.path.parts[0] if len(self.path.parts) > 1 else ""

    @property
    def choice(self) -> str:
        """Name of the file as it is chosen on the command line."""
        return "/".join(self.path.with_suffix("").parts[1 if self.group else 0 :])

    @property
    def anchor(self) -> str:
        """Anchor of its section on the page."""
        return re.sub(r"[^\w-]", "-", self.choice)

    @property
    def prefix(self) -> str:
        """What stands before its options on the command line, with the dot."""
        if self.is_global or self.group in ("", "experiment"):
            return ""
        if self.group == "explainer":
            return f"explain.options.{self.choice}."
        below = _packages().get(self.path.with_suffix("").as_posix(), "")
        if self.group == "hydra":  # hydra/sweeper/study.yaml
            below = "".join(self.path.parts[1:-1])
        return f"{self.group}.{below}." if below else f"{self.group}."

    @property
    def builds(self) -> str:
        """Dotted name of the class that the whole file describes, else ""."""
        return next((option.default for option in self.options if option.name == "_target_"), "")


@cache
def read_conf(conf: Path = ROOT / "conf") -> tuple[ConfFile, ...]:
    """Read every yaml file of the configuration, sorted by path."""
    return tuple(_read_file(path, conf) for path in sorted(conf.rglob("*.yaml")))


@cache
def _packages() -> Mapping[str, str]:
    """File → key below which other files of its folder take it in: `maps` for `defaults: [maps@maps]`."""
    found = {}
    for path in (ROOT / "conf").rglob("*.yaml"):
        for name, package in re.findall(r"[\[ ]([\w/]+)@([a-z]\w*)", "".join(_defaults_lines(path.read_text()))):
            if "/" not in name:
                found[f"{path.parent.name}/{name}"] = package
    return found


def _defaults_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("defaults:", "  - "))]


def _read_file(path: Path, conf: Path) -> ConfFile:
    text = path.read_text()
    lines = text.splitlines()
    head = list(takewhile(lambda line: line.startswith("#"), lines))
    package = "# @package "
    about = " ".join(line[1:].strip() for line in head if not line.startswith(package))
    root = yaml.compose(text)
    options = tuple(_walk(root, lines, "", "")) if isinstance(root, yaml.MappingNode) else ()
    parents = next((option.default for option in options if option.name == "defaults"), "")
    return ConfFile(
        path=path.relative_to(conf),
        about=about,
        parents=tuple(_parents(yaml.safe_load(text) or {})) if parents else (),
        options=tuple(option for option in options if option.name.partition(".")[0] != "defaults"),
        is_global=any(line.startswith(f"{package}_global_") for line in head),
    )


def _parents(content: Mapping[str, object]) -> Iterator[str]:
    """Names of the files that `defaults` takes in, without Hydra's `_self_` and schemas."""
    entries = content.get("defaults", [])
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, str):
            if entry != "_self_" and not entry.endswith("_schema"):
                yield entry.partition("@")[0].lstrip("/")
        else:
            for group, choice in entry.items():
                yield f"{group.removeprefix('override ').lstrip('/').partition('@')[0]}={_shown(choice)}"


def _shown(value: object) -> str:
    return "null" if value is None else "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _walk(node: yaml.MappingNode, lines: list[str], prefix: str, target: str) -> Iterator[Option]:
    """Yield the options of a mapping, depth first, in the order of the file."""
    named = {key.value: value for key, value in node.value}
    if isinstance(named.get("_target_"), yaml.ScalarNode):
        target = named["_target_"].value
    elif prefix:
        target = ""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and not value.flow_style and key.value != "defaults":
            yield Option(name, "", _comment(lines, key.end_mark.line, key.end_mark.column), target)
            yield from _walk(value, lines, f"{name}.", target)
        else:
            written = _written(value, lines)
            place = key.end_mark if "\n" in written else value.end_mark
            yield Option(name, " ".join(written.split()), _comment(lines, place.line, place.column), target)


def _written(node: yaml.Node, lines: list[str]) -> str:
    """The text of a value as it stands in the file, without comments."""
    start, end = node.start_mark, node.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column]
    part = [lines[start.line][start.column :], *lines[start.line + 1 : end.line]]
    part += [lines[end.line][: end.column]] if end.line < len(lines) else []
    return "\n".join(re.sub(r"(^|\s)#.*$", "", line) for line in part)


def _comment(lines: list[str], line: int, column: int) -> str:
    """The comment behind a column of a line."""
    match = re.search(r"(?:^|\s)#\s*(.*)$", lines[line][column:]) if line < len(lines) else None
    return match[1].strip() if match else ""


def is_agent_file(file: ConfFile) -> bool:
    """Whether a file is read by `wandb sweep`, and not by seewhy."""
    return file.path.parts[:2] == ("hparams_search", "wandb")


def find_meaning(option: Option, file: ConfFile) -> str:
    """Give the meaning of an option, "" where nothing states it."""
    leaf = option.name.rpartition(".")[2]
    same = re.fullmatch(r"\$\{\.*([\w.]+)\}", option.default)
    sources = (
        option.comment,
        GENERAL.get(leaf, ""),
        _stated(option),
        f"as `{same[1]}`" if same else "",
        *(_comments(parent).get(file.prefix + option.name, "") for parent in _ancestors(file)),
        _comments(None).get(file.prefix + option.name, ""),
        next((f"an entry of `{other.name}`" for other in file.options if option.name.startswith(f"{other.name}.")
              and other.comment), ""),
    )  # fmt: skip
    return next(filter(None, sources), "")


def _stated(option: Option) -> str:
    """What the docstring of its class says of an option."""
    return read_arguments(option.target).get(option.name.rpartition(".")[2], "")


def _ancestors(file: ConfFile) -> Iterator[Path]:
    """Files of the same folder that a file takes in, the nearest first."""
    for name in file.parents:
        for other in read_conf():
            if other.group == file.group and other.choice == name and other.path != file.path:
                yield other.path
                yield from _ancestors(other)


@cache
def _comments(path: Path | None) -> Mapping[str, str]:
    """Full name → meaning, of the options of a file, or of all files (the first meaning counts)."""
    found: dict[str, str] = {}
    for file in read_conf():
        for option in file.options if path in (None, file.path) else ():
            text = option.comment or _stated(option)
            if text:
                found.setdefault(file.prefix + option.name, text)
    return found


@cache
def read_arguments(target: str) -> Mapping[str, str]:
    """Read what the docstring of a class or function of seewhy says of its arguments, without importing it.

    Args:
        target: dotted name, e.g. `seewhy.callbacks.ema.StochasticWeightAveraging`.
    """
    module, _, name = target.rpartition(".")
    file = ROOT / "src" / f"{module.replace('.', '/')}.py"
    if not target.startswith("seewhy.") or not file.is_file():
        return {}
    thing = griffe.visit(module, filepath=file, code=file.read_text()).members.get(name)
    found: dict[str, str] = {}
    for item in (thing, thing.members.get("__init__") if thing is not None and thing.is_class else None):
        if item is not None and item.docstring is not None:
            sections = item.docstring.parse("google", warnings=False)
            for section in sections:
                if section.kind is griffe.DocstringSectionKind.parameters:
                    found |= {entry.name: " ".join(entry.description.split()) for entry in section.value}
    return found
