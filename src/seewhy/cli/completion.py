"""Completion of command lines in shells, by argcomplete."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from typing import Any

from seewhy.options import flatten_options

__all__ = ["add_overrides", "complete", "suggest"]


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's question for the words that may follow, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser, validator=lambda _word, _typed: True)


def add_overrides(parser: argparse.ArgumentParser, command: str) -> None:
    """Let a shell complete the options of a command that Hydra configures."""
    words = parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    words.completer = partial(_complete_override, command)  # type: ignore[attr-defined]


def suggest(command: str, typed: str, others: Iterable[str] = ()) -> list[str]:
    """Suggest words that begin with what was typed: groups with their choices, and options with `=`.

    Args:
        command: configured by Hydra.
        typed: beginning of a word.
        others: the other words of the line; they determine which options exist.

    Example:
        >>> suggest("train", "experiment=am")
        ['experiment=amd']
        >>> suggest("train", "trainer.max_e", ["experiment=amd"])
        ['trainer.max_epochs=']
    """
    from seewhy.cli.help import list_choices
    from seewhy.run.folder import conf_dir

    root = conf_dir()
    key, equals, _ = typed.partition("=")
    if equals:
        folder = root / key
        words = [f"{key}={name}" for name in list_choices(folder)] if key and folder.is_dir() else []
    else:
        words = [f"{folder.name}=" for folder in sorted(root.iterdir()) if folder.is_dir()]
        words += [f"{name}=" for name in _list_options(command, others)]
    return sorted({word for word in words if word.startswith(typed)})


def _complete_override(command: str, prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    key, equals, value = prefix.partition("=")
    if equals and key in ("run", "ckpt_path", "weights", "data.root", "volume.input", "volume.output"):
        from argcomplete.completers import FilesCompleter

        return [f"{key}={name}" for name in FilesCompleter()(value)]
    return suggest(command, prefix, parsed_args.overrides or ())


def _list_options(command: str, others: Iterable[str]) -> list[str]:
    """List the options of a composed configuration, or those of the command alone where it cannot be composed."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from seewhy.cli.compose import compose_saved, compose_train
    from seewhy.cli.help import OWN_OPTIONS, read_option_comments
    from seewhy.errors import SeewhyError
    from seewhy.run.folder import conf_dir

    words = [word for word in others if "=" in word]
    try:
        config = compose_train(*words) if command == "train" else compose_saved(command, None, *words)
    except (SeewhyError, HydraException, OmegaConfBaseException, OSError, ValueError):
        names = [option.key for option in read_option_comments(conf_dir() / f"{command}.yaml")]
        for group in OWN_OPTIONS[command]:
            options = read_option_comments(conf_dir() / group / "default.yaml")
            names += [f"{group}.{option.key}" for option in options if option.value]
        return names
    return [
        key for key in flatten_options(OmegaConf.to_container(config)) if not key.rpartition(".")[2].startswith("_")
    ]
