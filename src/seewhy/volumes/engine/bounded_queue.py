"""Bounded queue between two threads in which an error of either side reaches the other at once."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "QueueEnd"]

T = TypeVar("T")


class QueueEnd(Exception):  # noqa: N818 (the end of a queue is not an error)
    """The queue has ended: there are no more items, or none are accepted any more."""


class BoundedQueue(Generic[T]):
    """Passes items from one thread to another and makes the faster one wait.

    Args:
        capacity: maximum number of waiting items.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Append one item, waiting until there is room.

        Raises:
            QueueEnd: the queue has ended. If it failed, its error is raised instead.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._ended or len(self._items) < self.capacity)
            if self._error:
                raise self._error
            if self._ended:
                raise QueueEnd
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Remove and return the oldest item, waiting until there is one.

        Raises:
            QueueEnd: after the last item. If the queue failed, its error is raised instead, even if items wait.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._ended or self._items)
            if self._error:
                raise self._error
            if not self._items:
                raise QueueEnd
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self, *, drop: bool = False) -> None:
        """Accept no more items; `drop` also discards the waiting ones."""
        with self._changed:
            self._ended = True
            if drop:
                self._items.clear()
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Make both sides raise an error; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error that the queue failed with, if there was one."""
        with self._changed:
            if self._error:
                raise self._error
