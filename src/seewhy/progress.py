"""Progress bars on stderr for work that may take long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TypeVar

__all__ = ["slow_bar", "track_slowly"]

Item = TypeVar("Item")
DELAY = 2.0
"""Seconds after which a bar appears."""
SLOWEST = 3600.0
"""Longest time in seconds between two steps for which the remaining time is estimated."""


@contextmanager
def slow_bar(title: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Open a bar that appears after two seconds, also within a long step, and disappears at the end.

    A bar that is already on the terminal stays alone there if the terminal shows one at a time. A notebook shows bars
    where ipywidgets is installed.

    Args:
        title: text in front of the bar.
        total: number of steps; None if it is unknown.
        shown: False never shows a bar.

    Yields:
        A function to call after each step, or after several with their number.
    """
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    shown = shown and not (console.is_jupyter and find_spec("ipywidgets") is None)  # rich would print a warning instead
    progress = Progress(*columns, console=console, transient=True, disable=not shown, speed_estimate_period=SLOWEST)
    task = progress.add_task(title, total=total)
    closed, lock = False, threading.Lock()

    def appear() -> None:
        with lock:
            if closed or progress.disable or progress.live.is_started:
                return
            try:
                progress.start()
            except LiveError:
                progress.disable = True

    def advance(steps: int = 1) -> None:
        if time.monotonic() - started > DELAY:
            appear()
        progress.advance(task, steps)

    started = time.monotonic()
    timer = threading.Timer(DELAY, appear)
    timer.daemon = True
    if shown:
        timer.start()
    try:
        yield advance
    finally:
        timer.cancel()
        with lock:
            closed = True
            progress.stop()


def track_slowly(items: Iterable[Item], title: str, *, shown: bool = True) -> Iterator[Item]:
    """Iterate over items with a bar that appears when the work takes longer than two seconds, see `slow_bar`.

    Example:
        >>> from seewhy.progress import track_slowly
        >>> [number**2 for number in track_slowly(range(4), "squaring")]
        [0, 1, 4, 9]
    """
    with slow_bar(title, len(items) if isinstance(items, Sized) else None, shown=shown) as advance:
        for item in items:
            yield item
            advance()
