"""Command `seewhy serve run=RUN`: a page and an API that predict and explain uploaded cases on this machine."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command and its options to `commands`, the result of `ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "serve",
        help="serve a run on this machine: upload a case, see answer, map, verdict and doubts",
        description="Serve a run to this machine: a page and an API that predict and explain one uploaded case at a "
        "time. Uploads are removed with their answer. There is no password, and it is not a medical device.",
    )
    words = parser.add_argument(
        "words", metavar="KEY=VALUE", nargs="+", help="run=RUN (a run folder or a checkpoint), and options of its data "
        "and model, e.g. data.root=/data/brats",
    )  # fmt: skip
    words.completer = _complete_run
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default %(default)s, this machine")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one; default %(default)s")
    parser.add_argument("--allow-host", nargs="+", default=[], metavar="NAME", help="further names of this server")
    parser.add_argument("--max-upload", default="512MiB", help="largest request; default %(default)s")
    parser.add_argument("--max-unpacked", default="2GiB", help="largest case in memory; default %(default)s")
    parser.add_argument("--max-waiting", type=int, default=4, help="cases that may wait; default %(default)s")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for an upload, and again for its "
                        "prediction; default %(default)g")  # fmt: skip
    parser.add_argument("--methods", nargs="+", default=[], help="explanation methods; default: those of the run")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: the GPU if there is one")
    parser.add_argument("--final", action="store_true", help="take the last checkpoint instead of the best")
    parser.add_argument("--trust", action="store_true", help="build whatever the run names; see SECURITY.md")
    parser.set_defaults(run=_serve)


def _complete_run(prefix: str, **_: Any) -> list[str]:
    from argcomplete.completers import FilesCompleter

    key, equals, value = prefix.partition("=")
    return [f"run={name}" for name in FilesCompleter()(value)] if equals and key == "run" else ["run="]


def _serve(options: argparse.Namespace) -> int:
    from seewhy.errors import ConfigError

    run, replaced = _read_words(options.words)
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"serve needs {error.name}: pip install 'seewhy[serve]'") from error
    from seewhy.run.serving.options import ServingOptions
    from seewhy.run.serving.server import serve

    chosen = ServingOptions(
        host=options.host, port=options.port, allow_hosts=options.allow_host, max_upload=options.max_upload,
        max_unpacked=options.max_unpacked, max_waiting=options.max_waiting, timeout=options.timeout,
        methods=options.methods,
    )  # fmt: skip
    serve(run, chosen, final=options.final, device=options.device, replaced=replaced, trust=options.trust)
    return 0


def _read_words(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The run, and options of its data and model with values as in YAML."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from seewhy.errors import ConfigError

    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ConfigError(f"{wrong[0]}: expected KEY=VALUE, e.g. run={wrong[0]}")
    pairs = dict(word.split("=", 1) for word in words)
    run = pairs.pop("run", None)
    if not run:
        raise ConfigError("run=… must be given: a run folder, or a checkpoint in its checkpoints/")
    try:
        values = {key: OmegaConf.select(OmegaConf.from_dotlist([f"{key}={text}"]), key) for key, text in pairs.items()}
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{' '.join(words)}: not KEY=VALUE with values as in YAML ({error})") from error
    return run, values
