"""Progress bars on stderr for work that may take long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["slow_bar", "track_slowly"]

Item = TypeVar("Item")
DELAY = 2.0
"""Seconds after which a bar appears."""


@contextmanager
def slow_bar(title: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Open a bar that appears when the work takes longer than two seconds, and disappears at the end.

    A bar that is already on the terminal stays alone there.

    Args:
        title: text in front of the bar.
        total: number of steps; None if it is unknown.
        shown: False never shows a bar.

    Yields:
        A function to call after each step.
    """
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
    task = progress.add_task(title, total=total)
    started = time.monotonic()

    def advance() -> None:
        if not progress.disable and not progress.live.is_started and time.monotonic() - started > DELAY:
            try:
                progress.start()
            except LiveError:
                progress.disable = True
        progress.advance(task)

    try:
        yield advance
    finally:
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
