"""Run the server: load the run, listen, and predict in the main thread until the process is ended."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from seewhy.errors import ConfigError
from seewhy.io.atomic import temporary_folder
from seewhy.run.build import set_threads
from seewhy.run.loaded.loading import load
from seewhy.run.serving.app import build_app
from seewhy.run.serving.options import ServingOptions
from seewhy.run.serving.served_run import describe_run
from seewhy.run.serving.worker import CaseWorker

__all__ = ["serve", "temporary_files"]

MOST_CONNECTIONS = 64
KEEP_ALIVE, GRACE = 5, 3
"""Seconds that an idle connection is kept, and that open ones have when the server ends."""


@contextmanager
def temporary_files() -> Iterator[tuple[Path, Path]]:
    """Folders for uploads and for temporary files of readers, which only this user can read.

    All temporary files of this process lie in them within the block, and are removed at its end. What a killed server
    has left is removed here, too.

    Yields:
        The folder of uploads, and that of other temporary files.
    """
    root = temporary_folder()
    uploads, scratch = root / "uploads", root / "scratch"
    for folder in (uploads, scratch):
        folder.mkdir(mode=0o700)
    before = tempfile.tempdir
    tempfile.tempdir = str(scratch)
    try:
        yield uploads, scratch
    finally:
        tempfile.tempdir = before
        shutil.rmtree(root, ignore_errors=True)


def remove_folders(scratch: Path) -> None:
    """Remove the folders that readers have left, e.g. with unpacked copies of uploads."""
    for path in scratch.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def serve(
    run: str | Path,
    options: ServingOptions,
    *,
    final: bool = False,
    device: str | None = None,
    replaced: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> None:
    """Serve a run until the process is ended; to be called in its main thread, at its end.

    Args:
        run: see `seewhy.load`.
        options: where to listen, and limits.
        final: see `seewhy.load`.
        device: see `seewhy.load`.
        replaced: options of the run, see `options` of `seewhy.load`.
        trust: see `seewhy.load`.

    Raises:
        SeewhyError: a run that cannot be loaded or served, or an address that is not free.
    """
    import uvicorn

    model = load(run, final=final, device=device, options=replaced, trust=trust)
    set_threads(model.config)
    served = describe_run(model, options)
    console = Console(highlight=False)
    with temporary_files() as (uploads, scratch), _listen(options) as listening:
        worker = CaseWorker(most_waiting=options.max_waiting, tidy=lambda: remove_folders(scratch))
        app = build_app(model, served, worker, options, uploads)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=GRACE, lifespan="off", ws="none",
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=_answer, args=(server, worker, listening), name="seewhy-serve", daemon=True)
        thread.start()
        try:
            if options.is_public:
                console.print(f"warning: {options.host} may be reached by other machines, and there is no password; "
                              "whoever reaches it can use this model and see its answers", soft_wrap=True)  # fmt: skip
            console.print(f"serving {served.name} at {_format_address(listening)}; Ctrl-C ends it", soft_wrap=True)
            worker.run()
        except KeyboardInterrupt:
            console.print("ended by Ctrl-C")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # a second one would leave uploads behind
                signal.signal(number, signal.SIG_IGN)
            server.should_exit = True
            thread.join(2 * GRACE)


def _answer(server: Any, worker: CaseWorker, listening: socket.socket) -> None:
    """Answer requests in a thread; the main thread ends with it."""
    try:
        with warnings.catch_warnings():
            server.run(sockets=[listening])
    finally:
        worker.stop()


def _listen(options: ServingOptions) -> socket.socket:
    """Open the port.

    Raises:
        ConfigError: it is in use, or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # who connects before the server has started waits
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {options.host}:{options.port} ({error.strerror or error}); choose another --port, or "
            "--port 0 for a free one"
        ) from error
    return listening


def _format_address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
