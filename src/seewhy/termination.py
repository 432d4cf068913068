"""End by SIGTERM: exit status 143, everything closed in order, and one line that says how to continue."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["STATUS", "Terminated", "end_on_sigterm", "raise_terminated"]

STATUS = 128 + int(signal.SIGTERM)
"""Exit status of a process that SIGTERM has ended, as shells report it."""


class Terminated(SystemExit):
    """SIGTERM has arrived; a `SystemExit`, so that no handler of errors keeps the process alive.

    Args:
        advice: what the user can do to continue.
    """

    def __init__(self, advice: str = "run the same command again") -> None:
        super().__init__(STATUS)
        self.advice = advice


def raise_terminated(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM by raising `Terminated`."""
    raise Terminated


@contextmanager
def end_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` in the main thread when SIGTERM arrives within the block; forked children die as usual.

    Example:
        >>> import os, signal
        >>> try:
        ...     with end_on_sigterm():
        ...         os.kill(os.getpid(), signal.SIGTERM)
        ... except Terminated as end:
        ...     print(end.code)
        143
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise_terminated(signum, frame)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
