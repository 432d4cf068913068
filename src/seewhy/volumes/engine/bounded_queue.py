"""A bounded queue between two threads in which an error of either is seen by the other at once."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "QueueEnd"]

T = TypeVar("T")


class QueueEnd(Exception):  # noqa: N818 (an end is no error)
    """Nothing more comes, or nobody takes any more."""


class BoundedQueue(Generic[T]):
    """Hands items from one thread to another and makes the faster one wait.

    Args:
        capacity: items that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Append one item, as soon as there is room.

        Raises:
            ChannelEnd: when the channel was ended; the error it failed with, if it did.
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
        """Take the oldest item, as soon as there is one.

        Raises:
            ChannelEnd: after the last one; the error the channel failed with, even if items wait.
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
        """Say that nothing more comes; with `drop` what waits is thrown away too."""
        with self._changed:
            self._ended = True
            if drop:
                self._items.clear()
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Let both sides fail with the first error."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error the channel failed with, if it did."""
        with self._changed:
            if self._error:
                raise self._error
