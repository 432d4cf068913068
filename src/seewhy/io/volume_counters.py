"""How much has passed between a store and us."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["Counters"]

FIELDS = ("bytes_read", "reads", "bytes_written", "writes", "retries")


class Counters:
    """Bytes and calls at a store, added to by several threads.

    Attributes:
        bytes_read: as they came from the store, still compressed.
        reads: objects or parts of objects that were there.
        bytes_written: as they went to the store, compressed.
        writes: objects put.
        retries: calls that failed and were made again.
    """

    bytes_read: int
    reads: int
    bytes_written: int
    writes: int
    retries: int

    def __init__(self) -> None:
        self._lock = threading.Lock()
        for field in FIELDS:
            setattr(self, field, 0)

    def add(self, **amounts: int) -> None:
        """Add to some of the counts, e.g. `add(bytes_read=512, reads=1)`."""
        with self._lock:
            for field, amount in amounts.items():
                setattr(self, field, getattr(self, field) + amount)

    def record(self) -> dict[str, int]:
        """All counts at one moment."""
        with self._lock:
            return {field: getattr(self, field) for field in FIELDS}

    def __getstate__(self) -> dict[str, Any]:
        return self.record()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"Counters({', '.join(f'{field}={value}' for field, value in self.record().items())})"
