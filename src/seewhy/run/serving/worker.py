"""Run jobs one after the other in one thread; a limited number of others wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from seewhy.run.serving.guard import RequestError

__all__ = ["CaseWorker", "QueuePlace"]

Job = Callable[[], Any]
BUSY = 503
"""Status of HTTP for a server that has no time now."""


class CaseWorker:
    """Runs jobs in the thread that calls `run`, because a network is used by one job at a time.

    Args:
        most_waiting: jobs that may wait behind the one that runs.
        tidy: called after each job, whether it failed or not.

    Example:
        >>> worker = CaseWorker(most_waiting=1)
        >>> future = worker.reserve().submit(lambda: 2 + 3)
        >>> worker.stop()
        >>> worker.run()
        >>> future.result()
        5
    """

    def __init__(self, *, most_waiting: int, tidy: Job = lambda: None) -> None:
        self.most_waiting, self._tidy = most_waiting, tidy
        self._jobs: queue.Queue[tuple[Future[Any], Job] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def places_taken(self) -> int:
        """Places that are taken: the running job, those that wait, and uploads that have begun."""
        return self._taken

    def reserve(self) -> QueuePlace:
        """Take a place in the queue.

        Raises:
            RequestError: all places are taken.
        """
        with self._lock:
            if self._taken > self.most_waiting:
                raise RequestError(
                    f"the server is busy: {self._taken} cases are being uploaded or predicted, and no more may wait; "
                    "try again in a minute",
                    status=BUSY,
                )
            self._taken += 1
        return QueuePlace(self)

    def run(self) -> None:
        """Run jobs until `stop`; errors of a job are those of its future."""
        while (item := self._jobs.get()) is not None:
            future, job = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except Exception as error:
                self._tidy()
                future.set_exception(error)
            except BaseException:  # this process ends
                future.set_exception(RequestError("the server was ended; start it and try again", status=BUSY))
                raise
            else:
                self._tidy()
                future.set_result(result)

    def stop(self) -> None:
        """Let `run` return after the jobs that wait now."""
        self._jobs.put(None)

    def _submit(self, job: Job) -> Future[Any]:
        future: Future[Any] = Future()
        future.add_done_callback(lambda _: self._release())
        self._jobs.put((future, job))
        return future

    def _release(self) -> None:
        with self._lock:
            self._taken -= 1


class QueuePlace:
    """A place in the queue of a `Worker`; it ends with its job, or by `leave` without one."""

    def __init__(self, worker: CaseWorker) -> None:
        self._worker, self._held = worker, True

    def submit(self, job: Job) -> Future[Any]:
        """Let a job run when its turn comes."""
        self._held = False
        return self._worker._submit(job)

    def leave(self) -> None:
        """Give the place up; nothing happens after `submit`."""
        if self._held:
            self._held = False
            self._worker._release()
