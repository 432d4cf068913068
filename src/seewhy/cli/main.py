"""`python -m seewhy COMMAND`: one door to every command; a command's module is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys

__all__ = ["main"]

HYDRA = {
    "train": "train, validate and test a model: seewhy train experiment=…",
    "predict": "predict with a trained run: seewhy predict run=…",
    "evaluate": "judge a translating run beside floors and simple methods: seewhy evaluate run=…",
    "cases": "choose cases of a translating run and draw them: seewhy cases run=…",
    "explain": "draw and save the maps of a trained run: seewhy explain run=…",
}
COMMANDS = {"prepare": "prepare", "check": "check", "import": "importing", "pool": "pool", "blend": "volume_steps"}


def main(arguments: list[str] | None = None) -> None:
    """Dispatch to a command; user errors are one line on stderr and exit status 1."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in HYDRA:
        sys.argv = [f"seewhy {words[0]}", *words[1:]]
        importlib.import_module(f"seewhy.cli.{words[0]}").main()
        return
    from seewhy.errors import SeewhyError

    options = _parser().parse_args(words)
    try:
        status = options.run(options)
    except SeewhyError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 1
    raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seewhy", description="Train on medical images, predict, and see why it predicts what it does."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in HYDRA.items():
        commands.add_parser(name, help=text, add_help=False)
    for module in COMMANDS.values():
        importlib.import_module(f"seewhy.cli.{module}").add_parser(commands)
    return parser
