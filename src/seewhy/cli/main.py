"""Entry point `seewhy COMMAND` of all commands; the module of a command is imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any, NoReturn

from seewhy.cli.help import ExampleFormatter, format_examples

__all__ = ["main", "make_parser"]

HYDRA = {
    "train": "train, validate and test a model",
    "predict": "predict with a trained run",
    "explain": "compute, judge and draw maps of a trained run",
    "export": "write the network of a run for use without torch",
    "evaluate": "compare a translation run with floors and simple methods",
    "cases": "select cases of a translation run and draw them",
}
"""Commands that Hydra configures."""
MODULES = ("prepare", "check", "importing", "finished_runs", "judge", "serve", "volume_steps")
"""Modules with the other commands."""
GROUPS = {
    "data": ("prepare", "check"),
    "training": ("train", "pool"),
    "results of runs": ("predict", "explain", "evaluate", "cases", "report", "compare", "agree", "serve"),
    "networks from elsewhere, and for elsewhere": ("import", "judge", "export"),
    "volumes predicted with volume.job.keep_logits=true": ("blend", "finalize"),
}
EXAMPLES = """examples:
  seewhy train experiment=demo/brats
  seewhy explain run=lightning_logs/demo/brats/2026-01-31_12-00-00
  seewhy prepare brats downloads/BraTS data/BraTS --modality flair
  seewhy check data/BraTS
  seewhy judge my_network.py:build images/ --labels labels.csv

`seewhy COMMAND --help` explains a command. Options of train, predict, explain, export, evaluate and
cases are written KEY=VALUE. Completion in bash and zsh: eval "$(register-python-argcomplete seewhy)"
"""


def main(arguments: list[str] | None = None) -> None:
    """Dispatch to a command; errors that a user can fix are one line on stderr, with exit status 1."""
    words = sys.argv[1:] if arguments is None else arguments
    if "_ARGCOMPLETE" in os.environ:
        from seewhy.cli.completion import complete

        complete(make_parser())
    try:
        try:
            _dispatch(words)
        finally:
            sys.stdout.flush()  # here, and not when Python ends, where an error could no longer be caught
    except BrokenPipeError:  # the reader of a pipe, e.g. `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def _dispatch(words: list[str]) -> None:
    if words and words[0] in HYDRA:
        from seewhy.cli.hydra_commands import run_hydra_command

        sys.argv[1:] = words
        run_hydra_command(words[0], prefix=words[:1])
    else:
        _run(words)


def _run(words: list[str]) -> NoReturn:
    from seewhy.errors import SeewhyError, describe_system_error
    from seewhy.termination import Terminated, end_on_sigterm

    options = make_parser().parse_args(words)
    try:
        with end_on_sigterm():
            status = options.run(options)
    except Terminated as end:
        sys.stderr.write(f"ended by SIGTERM; {end.advice}\n")
        raise
    except SeewhyError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 1
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError, MemoryError) as error:
        message = describe_system_error(error)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.stderr.write(f"error: {message}\n")
        status = 1
    raise SystemExit(status)


class _Parser(argparse.ArgumentParser):
    """Lists the commands by subject.

    Attributes:
        texts: command → its purpose.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.texts = dict(HYDRA)

    def format_help(self) -> str:
        """Format purpose, commands and examples."""
        lines = ["usage: seewhy COMMAND ...", "", str(self.description)]
        for group, names in GROUPS.items():
            lines += ["", f"{group}:", *(f"  {name:<12}{self.texts[name]}" for name in names)]
        return "\n".join(lines) + f"\n\n{EXAMPLES}"


class _Commands:
    """The sub-parsers of a parser, with the purpose of each."""

    def __init__(self, parser: _Parser) -> None:
        self._parser = parser
        self._commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser)

    def add_parser(self, name: str, *, help: str, **options: Any) -> argparse.ArgumentParser:  # noqa: A002 - argparse's
        self._parser.texts[name] = help
        return self._commands.add_parser(
            name, help=help, epilog=format_examples(name), formatter_class=ExampleFormatter, **options
        )


def make_parser() -> _Parser:
    """Make the parser of all commands."""
    from seewhy.cli.completion import add_overrides

    parser = _Parser(
        prog="seewhy", description="Train on medical images, predict, and see why it predicts what it does."
    )
    commands = _Commands(parser)
    for name, text in HYDRA.items():
        add_overrides(commands.add_parser(name, help=text), name)
    for module in MODULES:
        importlib.import_module(f"seewhy.cli.{module}").add_parser(commands)
    return parser
