"""Read the configuration of a saved run as data, and check every class that it names before anything is built.

A run folder may come from a stranger, and Hydra calls whatever `_target_` names: `os.system` as well as a network.
So a saved configuration may name only classes of a few kinds, from `seewhy` and the libraries whose networks, losses
and metrics seewhy uses. Everything else needs `trust=true`, which the user gives for one call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seewhy.errors import ConfigError

__all__ = ["check_targets", "load_plain_yaml", "read_config_section", "read_saved_config"]

ROOT_KEYS = ("name", "seed", "threads", "data", "model", "explain", "trainer")
"""Root keys of a saved run that later commands use. Callbacks, loggers, paths and `hydra` are those of the command."""

KINDS = {
    "data": ("seewhy.data.base.BaseDataModule",),
    "model": ("lightning.pytorch.LightningModule",),
    "trainer": ("lightning.pytorch.Trainer",),
    "explain": ("seewhy.explain.base.Explainer", "seewhy.callbacks.maps.WriteMaps"),
}
"""Place of a target in the configuration → its permitted base classes."""

PARTS = ("torch.nn.Module", "torchmetrics.Metric", "lightning.pytorch.strategies.Strategy")
"""The base classes of targets deeper inside the configuration, e.g. a network, a loss or the strategy of a trainer."""

PACKAGES = (
    "seewhy.callbacks", "seewhy.data", "seewhy.explain", "seewhy.losses", "seewhy.metrics", "seewhy.models",
    "seewhy.nets", "lightning.pytorch", "monai.losses", "monai.networks", "torch.nn", "torchmetrics",
)  # fmt: skip
"""The packages in which such classes are looked up; nothing else is imported because a file names it."""

FOLDERS = ("explain.folder", "explain.own_maps.folder", "data.cache_dir")
"""Options that name a folder to write into; a saved run may only name its own."""

MAX_BYTES = 4 << 20
"""A configuration is a few kilobytes; a larger file is something else."""
DEEPEST, MOST_ENTRIES = 50, 30_000
"""Levels and entries of a configuration; more could take minutes to parse, levels with their square."""


def read_saved_config(folder: str | Path, *, trust: bool = False, given: Collection[str] = ()) -> dict[str, Any]:
    """Read the part of `<folder>/config.yaml` that later commands build on.

    Interpolations such as `${oc.env:HOME}` are plain text here: a run's configuration was saved resolved.

    Args:
        folder: the run folder.
        trust: build and write whatever the file names. Only for folders whose origin is known.
        given: keys of the command line's overrides, which replace those of the file.

    Raises:
        ConfigError: the file cannot be read as plain YAML, is not the record of a run, or names a class or a folder
            for results that a saved run may not name.
    """
    path = Path(folder) / "config.yaml"
    config = read_config_section(path)
    kept = {key: _as_text(config[key]) for key in ROOT_KEYS if key in config}
    wrong = [f"{key} is {kept[key]!r:.40}" for key in KINDS if not isinstance(kept.get(key), dict | None)]
    if wrong:
        raise ConfigError(f"{path}: {'; '.join(wrong)}; expected a mapping from options to values in each")
    if not trust:
        check_targets(kept, path)
        _check_folders(kept, path, given)
    for option, value in (("default_root_dir", str(path.parent)), ("num_nodes", 1)):
        if isinstance(kept.get("trainer"), dict) and option in kept["trainer"]:
            kept["trainer"][option] = value  # of this machine, which would wait for other nodes
    return kept


def read_config_section(path: Path) -> dict[str, Any]:
    """Read the section `config` of a run's `config.yaml`; its classes are not checked.

    Raises:
        ConfigError: the file cannot be read as plain YAML, or is not the record of a run.
    """
    record = load_plain_yaml(path)
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is not the record of a seewhy run: it has no section `config`")
    return config


def load_plain_yaml(path: str | Path) -> Any:
    """Load a YAML file as dicts, lists, strings and numbers.

    Aliases are refused, since a few lines of them can stand for gigabytes.

    Raises:
        ConfigError: the file is missing, too large, too deep or long, not UTF-8, not YAML, or has aliases or tags.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES or not path.is_file():
            raise ConfigError(f"{path} is not a configuration file ({size} bytes)")
        depth = 0
        for number, event in enumerate(yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or number > MOST_ENTRIES:
                limits = f"{DEEPEST} levels of lists or mappings, or {MOST_ENTRIES} entries"
                raise ConfigError(f"{path} has more than {limits} ({event.start_mark}), which no configuration has")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{path} has YAML aliases ({event.start_mark}), which a saved file never has")
        config = OmegaConf.load(path)
        return OmegaConf.to_container(config, resolve=False)
    except (OSError, UnicodeError, yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path} cannot be read as YAML ({detail})") from error


def check_targets(config: dict[str, Any], path: str | Path) -> None:
    """Check that every `_target_` is a class of the kind that its place asks for.

    Args:
        config: root keys of a saved configuration.
        path: its file, for the message.

    Raises:
        ConfigError: all targets that are refused, and how to allow them for one call.
    """
    problems = []
    for place, target in _targets(config, ""):
        kinds = KINDS.get(place.split(".")[0], ()) if "." not in place or place.startswith("explain.") else PARTS
        problem = _problem(target, kinds, Path(path).parent)
        if problem:
            problems.append(f"{place}._target_={target!r} {problem}")
    if problems:
        raise ConfigError(
            f"{path} names what a saved run may not name: {'; '.join(problems)}. "
            "If you know where the folder comes from and what this does, add trust=true to allow it for this call"
        )


def _check_folders(config: dict[str, Any], path: Path, given: Collection[str]) -> None:
    """Raise an error for folders of results outside the run folder, which the command line does not name."""
    home = path.parent.resolve()
    for option in FOLDERS:
        value: Any = config
        for key in option.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and option not in given and home not in (Path(str(value)) / "_").resolve().parents:
            raise ConfigError(
                f"{path} writes to {option}={value!r}, which is not in the run folder; if you want that, add this "
                f"option to the command, or {option}=null for the default"
            )


def _as_text(value: Any) -> Any:
    """The value with every interpolation escaped."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, list) else value


def _targets(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Dotted place and value of every `_target_`, in dicts and lists of any depth."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node["_target_"]
        items: Any = node.items()
    else:
        items = enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        yield from _targets(item, f"{place}.{key}" if place else str(key))


def _problem(target: Any, kinds: tuple[str, ...], folder: Path) -> str | None:
    """Why a target is refused; None for a class of one of the kinds."""
    if not isinstance(target, str) or not target.startswith(tuple(f"{package}." for package in PACKAGES)):
        return f"is not in {', '.join(PACKAGES)}"
    if _is_shadowed(target.split(".")[0], folder):
        return "would be imported from the run folder or the working directory"
    candidate = _class_of(target)
    if candidate is None:
        return "is not a class there"
    if not any(issubclass(candidate, _class_of(kind) or ()) for kind in kinds):
        return f"is not a {' or '.join(kinds) or 'known part of a configuration'}"
    return None


def _class_of(name: str) -> type | None:
    """The class of a dotted name, where it is defined in one of the packages; None for anything else."""
    module, _, leaf = name.rpartition(".")
    try:
        candidate = getattr(import_module(module), leaf, None)
    except ImportError:
        return None
    defined = isinstance(candidate, type) and f"{candidate.__module__}.".startswith(tuple(f"{p}." for p in PACKAGES))
    return candidate if defined else None


def _is_shadowed(package: str, folder: Path) -> bool:
    """Whether a package would be found among a user's own files instead of where libraries are installed."""
    spec = find_spec(package)
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin is None or package == "seewhy":
        return False
    home = origin.parent.parent if origin.stem == "__init__" else origin.parent
    return home == Path.cwd() or folder.resolve() in (home, *home.parents)
