"""A bar for work that turns out to take long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["slow_bar"]

SLOW = 2.0
"""Seconds after which it is shown."""


@contextmanager
def slow_bar(text: str, total: int) -> Iterator[Callable[[], None]]:
    """Give a function to call after each of `total` pieces; a bar appears after two seconds and goes at the end."""
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, transient=True)
    task = progress.add_task(text, total=total)
    began = time.monotonic()

    def advance() -> None:
        if not progress.live.is_started and time.monotonic() - began > SLOW:
            progress.start()
        progress.advance(task)

    try:
        yield advance
    finally:
        progress.stop()
