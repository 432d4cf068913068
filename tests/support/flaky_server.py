"""A web server on this machine that fails one request in ten."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FlakyServer(ThreadingHTTPServer):
    """Serves a folder; every tenth request fails, in turns by status 503, by half a body, and by hanging up."""

    daemon_threads = True

    def __init__(self, folder: Path, *, ranges: bool = True, every: int = 10) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.ranges, self.every = folder, ranges, every
        self.requests = self.failures = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fails(self) -> int | None:
        """Which way this request fails, or None."""
        with self.lock:
            self.requests += 1
            if not self.every or self.requests % self.every:
                return None
            self.failures += 1
            return self.failures % 3


class Handler(BaseHTTPRequestHandler):
    server: FlakyServer

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        failure = self.server.fails()
        if failure == 0:
            self.send_error(503)
            return
        if failure == 1:
            self.close_connection = True
            self.connection.close()
            return
        file = self.server.folder / self.path.split("?")[0].lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and self.server.ranges:
            first, last = asked.groups()
            content = content[int(first) : int(last) + 1 if last else None] if first else content[-int(last) :]
        self.send_response(206 if asked and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if failure == 2 else content)
            if failure == 2:
                self.close_connection = True

    def log_message(self, *words: object) -> None: ...


@contextmanager
def serving(folder: Path, *, ranges: bool = True, every: int = 10) -> Iterator[FlakyServer]:
    server = FlakyServer(folder, ranges=ranges, every=every)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
