"""Write the page of the command line: the help of every command, as the terminal shows it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import yaml

from seewhy.cli.help import EXAMPLES, ExampleFormatter
from seewhy.cli.main import HYDRA, make_parser

__all__ = ["PAGE", "write_page"]

PAGE = "reference/commands.md"
CONF = Path(__file__).resolve().parents[2] / "conf"
INTRODUCTION = """# Command line

`python -m seewhy COMMAND`, or `seewhy COMMAND` where the package is installed. `train.py`, `predict.py` and
`explain.py` in the folder of the source are the same as `seewhy train`, `seewhy predict` and `seewhy explain`.

Two kinds of commands:

- **Configured commands** take options as `name=value`: `seewhy train experiment=brats data.root=data/BraTS`. Every
  option stands in the [configuration reference](options/commands.md).
- **Plain commands** take flags: `seewhy check data/BraTS --json`.

An error is one line on stderr, with exit status 1. `HYDRA_FULL_ERROR=1` in front of a command shows the traceback.

## Configured commands

| command | what it does | files it starts from |
| --- | --- | --- |"""
FLAGS = """
| flag | what it does |
| --- | --- |
| `--help` | examples, choices, and the options of the command |
| `--cfg job` | print the configuration and run nothing |
| `-m`, `--multirun` | run all combinations of values: `seed=1,2,3` |
| `--config-dir FOLDER` | take configurations of your own from a folder, too |

An option that is not in the configuration is set with `+`: `+model.backbone.drop_path_rate=0.1`. `~name` removes one.
Words with spaces, brackets or commas need quotes in the shell: `'data.classes=[background,liver]'`.

## Completion

In bash and zsh, commands, choices, options and run folders are completed after
`eval "$(register-python-argcomplete seewhy)"`, e.g. in `~/.bashrc`. `seewhy train experiment=demo/<Tab>` lists the
demos, and `seewhy train experiment=brats model.<Tab>` the options of that model.

## Plain commands
"""


def write_page() -> str:
    """The Markdown of the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    for name, text in HYDRA.items():
        groups = [key for entry in _defaults(name) for key in entry if "override" not in key]
        folders = ", ".join(f"`{group}`" for group in groups)
        example = f"`seewhy {name} {EXAMPLES[name][0]}`"
        yield f"| `seewhy {name}` | {text}: {example} | `conf/{name}.yaml`; chooses from {folders} |"
    yield FLAGS
    for name, parser in _subparsers(make_parser()):
        if name not in HYDRA:
            yield from _sections(f"seewhy {name}", parser)


def _defaults(name: str) -> list[dict[str, object]]:
    """Entries of `defaults` of a command's configuration that choose a file of a folder."""
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return [entry for entry in content["defaults"] if isinstance(entry, dict)]


def _sections(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A section with the help of a command, and one for each command below it."""
    below = list(_subparsers(parser))
    yield f"### {name}\n"
    yield f"```text\n{_help(parser, name)}\n```\n"
    for word, child in below:
        yield from _sections(f"{name} {word}", child)


def _help(parser: argparse.ArgumentParser, name: str) -> str:
    parser.prog = name
    parser.formatter_class = _Wide
    return parser.format_help().rstrip()


class _Wide(ExampleFormatter):
    """Help of the same width on every terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=96, max_help_position=28)


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()
