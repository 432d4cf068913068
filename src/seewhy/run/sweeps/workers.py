"""Locks of files and signs of life, by which the processes of one sweep share a study."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from seewhy.errors import ConfigError

__all__ = ["FileLock", "Worker", "is_locked"]

HEARTBEAT = 20.0
"""Seconds between two signs of life of a worker."""
LOST = 15 * HEARTBEAT
"""Seconds without a sign of life after which a worker on another machine counts as dead."""


class FileLock:
    """Lock of a file between processes, which the operating system releases when its holder dies.

    It may be taken again by the process that holds it. The methods `acquire` and `release` are those that Optuna
    expects of the lock of a journal file.

    Example:
        >>> from seewhy.run.sweeps.workers import FileLock
        >>> lock = FileLock("study.lock")
        >>> with lock, lock:
        ...     lock.depth
        2
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.depth = 0
        self._file: Any = None

    def acquire(self) -> bool:
        """Wait for the lock.

        Raises:
            ConfigError: the file system has no locks.
        """
        if self.depth == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a")
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX)
            except OSError as error:
                self._file.close()
                raise ConfigError(
                    f"{self.path} cannot be locked ({error.strerror}), so processes cannot share a study there; put "
                    "hydra.sweep.dir on another file system"
                ) from error
        self.depth += 1
        return True

    def release(self) -> None:
        """Release the lock as often as it was acquired."""
        self.depth -= 1
        if self.depth == 0:
            self._file.close()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool | None:
    """Return whether another process holds the lock of a file; None if the file system cannot tell.

    Never ask for a file that this process has locked: closing it again would release that lock.
    """
    try:
        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


class Worker:
    """A process that runs members of a sweep, and its sign of life: a locked file whose time it renews.

    Args:
        folder: of the files of all workers of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = uuid.uuid4().hex[:12]

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Show that this process is alive within the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, ended = self.folder / self.name, threading.Event()
        with path.open("w") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
            file.flush()
            with suppress(OSError):  # a file system without locks: only the time of the file tells
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

            def renew() -> None:
                while not ended.wait(HEARTBEAT):
                    with suppress(OSError):  # the folder may be gone for a moment, or for good
                        os.utime(path)

            threading.Thread(target=renew, daemon=True).start()
            try:
                yield
            finally:
                ended.set()
                path.unlink(missing_ok=True)

    def is_dead(self, name: str | None) -> bool:
        """Return whether another worker has ended, by its lock, or on another machine by its last sign of life."""
        if name == self.name:
            return False
        if name is None or not (path := self.folder / name).is_file():
            return True
        locked = is_locked(path)
        if locked:
            return False
        try:
            host, age = json.loads(path.read_text())["host"], self._read_clock() - path.stat().st_mtime
        except FileNotFoundError:
            return True
        except (ValueError, KeyError):  # it is killed or delayed while it writes the file
            host, age = None, self._read_clock() - path.stat().st_mtime
        return age > LOST if locked is None or host not in (None, socket.gethostname()) else True

    def _read_clock(self) -> float:
        """Return the time by the clock of the file system, which may differ from that of this machine."""
        path = self.folder / f"{self.name}.clock"
        path.touch()
        now = path.stat().st_mtime
        path.unlink()
        return now if now > 0 else time.time()
