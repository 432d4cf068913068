"""Hydra's and OmegaConf's errors about a command line, said in one line with the nearest valid names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from seewhy.errors import nearest

__all__ = ["explain"]


def explain(error: Exception, config_name: str) -> str:
    """One line for a composition error: what was not found, and the names closest to it."""
    from hydra.errors import MissingConfigException

    text = _chain(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_choice(error)
    override = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Could not (?:append|delete)[^']*'([^']+)'", text
    )
    if override:
        return _unknown_key(override.group(1), config_name)
    key = re.search(r"Key '([^']+)' (?:not in|is not in)", text)
    if key:
        full = re.search(r"full_key: (\S+)", text)
        return _unknown_key(full.group(1) if full else key.group(1), config_name)
    mandatory = re.search(r"Missing mandatory value: (\S+)", text)
    if mandatory:
        name = mandatory.group(1)
        return f"{name} must be given, e.g. {name}=…"
    group = re.search(r"You must specify '([^']+)'", text)
    if group:
        return f"a choice for {group.group(1)!r} must be given, e.g. {group.group(1)}=…"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _chain(error: BaseException) -> str:
    """Messages of an error and of its causes."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        if str(current) not in texts:
            texts.append(str(current))
        current = current.__cause__
    return "\n".join(texts)


def _missing_choice(error: Any) -> str:
    """A group choice or config file that does not exist."""
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    options = error.options or _choices(group)
    label = group or "config"
    return f"{label}={choice!r} does not exist; {nearest(choice, options)}"


def _choices(group: str) -> list[str]:
    """Names of the files of a config group, sub-folders included."""
    from seewhy.run.configs import conf_dir

    root = conf_dir() / group
    return [str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml")]


def _unknown_key(name: str, config_name: str) -> str:
    """An option that no config declares."""
    name = name.split("@")[0].lstrip("+~")
    keys = list(_declared_keys(config_name))
    close = nearest(name, keys)
    leaf = name.rsplit(".", 1)[-1]
    same_leaf = [key for key in keys if key.rsplit(".", 1)[-1] == leaf]
    if same_leaf:
        close = "nearest: " + ", ".join(repr(key) for key in same_leaf[:3])
    return f"option {name!r} does not exist; {close}"


def _declared_keys(config_name: str) -> Iterator[str]:
    """Every dotted key of the configuration that the command line asks for, its own mistakes left out."""
    import sys

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from seewhy.run.configs import conf_dir

    GlobalHydra.instance().clear()
    asked = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    groups = [word for word in asked if (conf_dir() / word.split("=")[0]).is_dir()]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        try:
            config = compose(config_name, overrides=groups)
        except Exception:  # the groups themselves may be what is wrong
            config = compose(config_name)
    yield from _dotted(config, "")
    yield from (path.name for path in conf_dir().iterdir() if path.is_dir())


def _dotted(node: Any, prefix: str) -> Iterator[str]:
    """Dotted names of all keys below a node, without resolving anything."""
    from omegaconf import DictConfig

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    for key in node:
        name = f"{prefix}{key!s}"
        yield name
        child = node._get_node(key)
        yield from _dotted(child, f"{name}.")
