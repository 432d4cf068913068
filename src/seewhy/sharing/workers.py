"""Presence of the processes that share a run: names, heartbeats, and which of them are still alive."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from seewhy.io.atomic import create_exclusively, write_json

__all__ = ["LEASE", "Worker", "Workers"]

LEASE = 60.0
"""Seconds without a heartbeat after which a process of another machine counts as lost."""
BEATS = 6
"""Heartbeats per lease."""
RECHECK = 0.2
"""Seconds for which an answer about another process is reused."""


class Worker(NamedTuple):
    """Record of a process that takes part in shared work."""

    name: str
    host: str
    pid: int
    started: str
    """Start time of the process on its machine's own scale, which tells it from a later one with the same id."""
    token: str
    """Differs for each process; a file of another one has another token."""
    beat: int
    pace: float | None
    """Seconds per unit so far; None before the first."""
    ended: bool

    @property
    def place(self) -> str:
        """Machine and process id, for messages."""
        return f"process {self.pid} on {self.host.split(':')[0]}"


class Workers:
    """Presence of processes in a folder that all of them see.

    Every process creates one file `worker-0003.json` exclusively, and rewrites it with a growing number while it
    lives. Clocks of machines are never compared: an observer counts a process as lost when its number has not changed
    for a lease on the observer's own clock. On one machine a process that has ended is seen at once by its id.

    Args:
        folder: shared by all processes.
        lease: seconds, see `LEASE`; the same for all processes.
    """

    def __init__(self, folder: Path, *, lease: float = LEASE) -> None:
        self.folder, self.lease = folder, lease
        self.pace: float | None = None
        """Seconds per unit of this process, for its next heartbeat."""
        self._own: Worker | None = None
        self._seen: dict[str, tuple[int, float]] = {}
        self._gone: set[str] = set()
        self._answers: dict[str, tuple[float, bool]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Name of this process.

        Raises:
            ValueError: it has not joined.
        """
        if self._own is None:
            raise ValueError("call join first")
        return self._own.name

    @property
    def has_joined(self) -> bool:
        """Whether this process has joined and not left."""
        return self._own is not None

    def join(self) -> str:
        """Take the next free name and begin to beat."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.stem.rpartition("-")[2]) for path in self._paths()), default=-1) + 1
        token = os.urandom(8).hex()
        while True:
            own = Worker(
                f"{number:04d}", _find_host(), os.getpid(), _find_start(os.getpid()), token, 0, None, ended=False
            )
            if create_exclusively(self._path(own.name), json.dumps(own._asdict()).encode()):
                break
            number += 1
        self._own = own
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()
        return own.name

    def leave(self) -> None:
        """Stop beating; what this process has claimed and not written is free at once."""
        if self._own is None:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.is_member():
            self._write(self._own._replace(ended=True, pace=self.pace))
        self._own = self._thread = None

    @contextmanager
    def present(self) -> Iterator[None]:
        """Be a member while the block runs."""
        if self.has_joined:
            yield
            return
        self.join()
        try:
            yield
        finally:
            self.leave()

    def is_member(self) -> bool:
        """Whether this process' file is still there: it is removed with an output that is overwritten."""
        present = None if self._own is None else self.read_worker(self._own.name)
        return present is not None and self._own is not None and present.token == self._own.token

    def is_alive(self, name: str) -> bool:
        """Whether a process may still be working: it beats, or has not been silent for a whole lease."""
        if self._own is not None and name == self._own.name:
            return True
        if name in self._gone:
            return False
        now = time.monotonic()
        asked, answer = self._answers.get(name, (now - 1, True))
        if now - asked >= min(RECHECK, self.lease / 20):
            answer = self._ask(name, now)
            self._answers[name] = (now, answer)
        return answer

    def _ask(self, name: str, now: float) -> bool:
        worker = self.read_worker(name)
        beat = -1 if worker is None else worker.beat
        last, since = self._seen.get(name, (None, now))
        if last != beat:
            since = now
        self._seen[name] = (beat, since)
        lost = now - since > self.lease
        if worker is None:  # removed, or created this moment and not written yet
            return not lost and self._path(name).exists()
        if worker.ended or lost or (worker.host == _find_host() and _find_start(worker.pid) != worker.started):
            if worker.ended or not lost:  # silent ones may wake up
                self._gone.add(name)
            return False
        return True

    def others(self) -> list[Worker]:
        """All other processes that may be alive."""
        names = [path.stem.rpartition("-")[2] for path in self._paths()]
        own = None if self._own is None else self._own.name
        found = [self.read_worker(name) for name in names if name != own and self.is_alive(name)]
        return [worker for worker in found if worker is not None]

    def read_worker(self, name: str) -> Worker | None:
        """Latest word of a process; None if there is none."""
        try:
            record: dict[str, Any] = json.loads(self._path(name).read_bytes())
            worker = Worker(**record)
            return worker if isinstance(worker.pid, int) and isinstance(worker.host, str) else None
        except (OSError, ValueError, TypeError):
            return None

    def _paths(self) -> list[Path]:
        return [path for path in self.folder.glob("worker-*.json") if path.stem.rpartition("-")[2].isdigit()]

    def _path(self, name: str) -> Path:
        return self.folder / f"worker-{name}.json"

    def _beat(self) -> None:
        while not self._stop.wait(self.lease / BEATS):
            if self._own is None or not self.is_member():
                return
            self._own = self._own._replace(beat=self._own.beat + 1, pace=self.pace)
            self._write(self._own)

    def _write(self, worker: Worker) -> None:
        with suppress(OSError):  # a full disk stops the writer with its own message; the next beat tries again
            write_json(self._path(worker.name), worker._asdict())


def _find_host() -> str:
    """Machine, its present boot, and the space of its process ids: together they tell whose ids are comparable."""
    boot, space = "", ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux: processes of one machine are waited for like those of others
        return f"{socket.gethostname()}:{os.getpid()}"
    return f"{socket.gethostname()}:{boot}:{space}"


def _find_start(pid: int) -> str:
    """Start time of a process on this machine; empty if there is none, or if it has ended and waits to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
