"""Entry point `seewhy COMMAND` of all commands; the module of a command is imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

__all__ = ["main"]

HYDRA = {
    "train": "train, validate and test a model: seewhy train experiment=…",
    "predict": "predict with a trained run: seewhy predict run=…",
    "export": "write the network of a run for use without torch: seewhy export run=… format=onnx",
    "evaluate": "compare a translation run with floors and simple methods: seewhy evaluate run=…",
    "cases": "select cases of a translation run and draw them: seewhy cases run=…",
    "explain": "compute and draw the maps of a trained run: seewhy explain run=…",
}
COMMANDS = {
    "prepare": "prepare",
    "check": "check",
    "import": "importing",
    "pool": "pool",
    "agree": "agree",
    "judge": "judge",
    "report": "report",
    "compare": "compare",
    "blend": "volume_steps",
}


def main(arguments: list[str] | None = None) -> None:
    """Dispatch to a command; errors that a user can fix are one line on stderr, with exit status 1."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in HYDRA:
        from seewhy.cli.hydra_commands import run_hydra_command

        sys.argv[1:] = words
        run_hydra_command(words[0], prefix=words[:1])
        return
    from seewhy.errors import SeewhyError, describe_system_error
    from seewhy.termination import Terminated, end_on_sigterm

    options = _parser().parse_args(words)
    try:
        with end_on_sigterm():
            status = options.run(options)
    except Terminated as end:
        sys.stderr.write(f"ended by SIGTERM; {end.advice}\n")
        raise
    except SeewhyError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 1
    except (OSError, RuntimeError, MemoryError) as error:
        message = describe_system_error(error)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.stderr.write(f"error: {message}\n")
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
