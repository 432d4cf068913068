"""A function of many items in several processes of this machine, with the results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from seewhy.errors import ConfigError, SeewhyError
from seewhy.progress import slow_bar

__all__ = ["map_in_processes"]

Item = TypeVar("Item")
Result = TypeVar("Result")
LARGEST_CHUNK = 32
"""Most items that are handed to a process at once."""

_work: tuple[Callable[[Any], Any], Sequence[Any]] | None = None
"""In a process of a pool: the function and all items."""


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], title: str, *, jobs: int = 1, shown: bool = True
) -> Iterator[Result]:
    """Apply a function to items in several processes, with a bar that appears when it takes longer than two seconds.

    The processes are forks, so neither function nor items need to be picklable; results do. They end with this process,
    and with the iteration, whatever ends it.

    Args:
        function: called once per item, in any process.
        items: in the order of the results.
        title: text in front of the bar.
        jobs: number of processes; 1 stays in this one.
        shown: False never shows a bar.

    Yields:
        Results in the order of the items.

    Raises:
        ConfigError: `jobs` is below 1, the system cannot fork, or a process was killed.

    Example:
        >>> from seewhy.sharing.pool import map_in_processes
        >>> list(map_in_processes(lambda number: number**2, range(4), "squaring", jobs=2))
        [0, 1, 4, 9]
    """
    if jobs < 1:
        raise ConfigError(f"jobs={jobs}; expected a number of processes, 1 or more")
    if jobs > 1 and "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError(f"jobs={jobs}, but this system cannot fork processes; use jobs=1")
    return _iterate(function, items, title, min(jobs, len(items)), shown)


def _iterate(
    function: Callable[[Item], Result], items: Sequence[Item], title: str, jobs: int, shown: bool
) -> Iterator[Result]:
    with slow_bar(title, len(items), shown=shown) as advance:
        for result in map(function, items) if jobs < 2 else _map_in_pool(function, items, title, jobs):
            yield result
            advance()


def _map_in_pool(function: Callable[[Item], Result], items: Sequence[Item], title: str, jobs: int) -> Iterator[Result]:
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin_process,
        initargs=(function, items, os.getpid()),
    )
    finished = False
    try:
        chunk = max(1, min(LARGEST_CHUNK, len(items) // (8 * jobs)))
        for result in pool.map(_call, range(len(items)), chunksize=chunk):
            if isinstance(result, SeewhyError):
                raise result
            yield result
        finished = True
    except BrokenProcessPool as error:
        raise ConfigError(
            f"{title}: one of {jobs} processes was killed, perhaps because memory ran out; "
            "run the same command again with fewer jobs"
        ) from error
    finally:
        for process in () if finished else set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_process(function: Callable[[Any], Any], items: Sequence[Any], parent: int) -> None:
    global _work
    _work = (function, items)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its processes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended without a word."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _call(number: int) -> Any:
    """Result of one item; an error of the user's is passed on as a value, with all its problems."""
    assert _work is not None
    function, items = _work
    try:
        return function(items[number])
    except SeewhyError as error:
        return error
