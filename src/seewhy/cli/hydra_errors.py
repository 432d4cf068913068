"""Describe errors of Hydra and OmegaConf about a command line in one line, with the nearest valid names.

The errors carry most facts only in their texts; `tests/cli/test_hydra_errors.py` pins the texts that are read here.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

from seewhy.cli.compose import split_override
from seewhy.errors import nearest
from seewhy.options import quote_value
from seewhy.run.folder import conf_dir

__all__ = ["describe_error"]


def describe_error(error: Exception, config_name: str) -> str:
    """Describe a composition error in one line: what does not exist, and the closest names.

    Args:
        error: raised by Hydra or OmegaConf while composing.
        config_name: root configuration of the command.
    """
    from hydra.errors import MissingConfigException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and choice.startswith("submitit"):
            return f"hydra/launcher={choice} needs submitit; pip install 'seewhy[sweep]'"
        return (
            f"{group or 'config'}={choice!r} does not exist; {nearest(choice, error.options or _list_choices(group))}"
        )
    text = _join_messages(error)
    if (unread := _find_unread_override(error, text)) is not None:
        return _describe_quoting(unread, text)
    key = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Could not (?:append|delete)[^']*'([^']+)'", text
    )
    if key is None and (key := re.search(r"Key '([^']+)' (?:is )?not in", text)):
        key = re.search(r"full_key: (\S+)", text) or key
    if key is not None:
        return _describe_unknown_key(key.group(1), config_name)
    mandatory = re.search(r"Missing mandatory value: (\S+)", text)
    if mandatory:
        return f"{mandatory.group(1)} must be given, e.g. {mandatory.group(1)}=…"
    group_choice = re.search(r"You must specify '([^']+)'", text)
    if group_choice:
        return f"a choice for {group_choice.group(1)!r} must be given, e.g. {group_choice.group(1)}=…"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _find_unread_override(error: Exception, text: str) -> str | None:
    """Find the override that Hydra's grammar does not accept, or takes for a list."""
    from hydra.errors import OverrideParseException

    if isinstance(error, OverrideParseException):
        return str(error.override)
    ambiguous = re.search(r"Ambiguous value for argument '(.*)'$", text, re.MULTILINE)
    return None if ambiguous is None else ambiguous.group(1)


def _describe_quoting(override: str, text: str) -> str:
    """Show how a value with blanks, brackets or other characters of Hydra's grammar is quoted, for this shell."""
    parts = split_override(override)
    if parts is None:
        reason = " ".join(line.strip() for line in text.splitlines() if line.strip() and "hydra.cc" not in line)
        return f"{override!r} is not an override ({reason}); expected key=value, +key=value or ~key"
    sign, key, value = parts
    return (
        f"{sign}{key}={value} cannot be read as one value because of its characters (blanks, brackets, =, commas, "
        f"quotes or letters with accents); quote it twice: {quote_override(sign, key, value)} (a list is [a,b], a "
        "mapping {a: 1})"
    )


def quote_override(sign: str, key: str, value: str) -> str:
    """Quote a text for Hydra, and the whole word for the shell.

    Example:
        >>> print(quote_override("", "volume.input", "Scan (1).nii.gz"))
        "volume.input='Scan (1).nii.gz'"
    """
    word = f"{sign}{key}={quote_value(value)}"
    # Double quotes work in every shell, but those of POSIX replace some characters between them.
    return f'"{word}"' if os.name == "nt" or not re.search(r'["$`!]|\\\\', word) else shlex.quote(word)


def _join_messages(error: BaseException) -> str:
    """Join the messages of an error and of its causes."""
    texts: dict[str, None] = {}
    current: BaseException | None = error
    while current is not None:
        texts[str(current)] = None
        current = current.__cause__
    return "\n".join(texts)


def _list_choices(group: str) -> list[str]:
    """List the files of a config group, sub-folders included."""
    root = conf_dir() / group
    return [str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml")]


def _describe_unknown_key(name: str, config_name: str) -> str:
    """Name the options closest to one that no config declares: first those whose last part is the same."""
    name = name.split("@")[0].lstrip("+~")
    if (conf_dir() / name).is_dir():
        choices = ", ".join(sorted(_list_choices(name)))
        return f"{name} takes the name of a choice, as {name}={_list_choices(name)[0]}; there are: {choices}"
    keys = list(_list_keys(config_name, hydra=name.startswith("hydra.")))
    leaf = name.rsplit(".", 1)[-1]
    same_leaf = [key for key in keys if key.rsplit(".", 1)[-1] == leaf]
    close = "nearest: " + ", ".join(repr(key) for key in same_leaf[:3]) if same_leaf else nearest(name, keys)
    return f"option {name!r} does not exist; {close}"


def _list_keys(config_name: str, *, hydra: bool) -> Iterator[str]:
    """List the dotted keys of the configuration that the command line chooses, without its wrong overrides.

    Args:
        config_name: root configuration of the command.
        hydra: list the options of Hydra instead.
    """
    import sys

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    overrides = [(word, split_override(word)) for word in sys.argv[1:]]
    choices = [word for word, parts in overrides if parts is not None and (conf_dir() / parts[1]).is_dir()]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        try:
            config = compose(config_name, overrides=choices, return_hydra_config=hydra)
        except Exception:  # the choices themselves may be wrong
            config = compose(config_name, return_hydra_config=hydra)
    if hydra:
        yield from _list_dotted(config.hydra, "hydra.")
        return
    yield from _list_dotted(config, "")
    yield from (path.name for path in conf_dir().iterdir() if path.is_dir())


def _list_dotted(node: Any, prefix: str) -> Iterator[str]:
    """List the dotted names of all keys below a node without resolving anything."""
    from omegaconf import DictConfig

    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    for key in node:
        name = f"{prefix}{key!s}"
        yield name
        yield from _list_dotted(node._get_node(key), f"{name}.")
