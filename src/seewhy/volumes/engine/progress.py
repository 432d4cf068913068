"""How far a part has come, and how fast."""

from __future__ import annotations

import time
from typing import Any

from seewhy.io.zarr.store import Counters

__all__ = ["Progress"]


class Progress:
    """Numbers for a progress bar; they are of this process and this start.

    Attributes:
        patches: to go through, skipped ones included.
        voxels: to store.
        run: patches that were predicted.
        skipped: patches that counted as background.
        written: voxels that are stored.
    """

    def __init__(self, *, counters: Counters) -> None:
        self.counters = counters
        self.patches, self.voxels, self.run, self.skipped, self.written = 0, 0, 0, 0, 0
        self._began = time.monotonic()

    def begin(self, *, patches: int, voxels: int) -> None:
        """Start the clock."""
        self.patches, self.voxels = patches, voxels
        self._began = time.monotonic()

    def update(self, *, run: int, skipped: int) -> None:
        """Note how many patches are done."""
        self.run, self.skipped = run, skipped

    @property
    def share(self) -> float:
        """Of the patches, in [0, 1]."""
        return (self.run + self.skipped) / self.patches if self.patches else 1.0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    @property
    def remaining(self) -> float | None:
        """Seconds to go at the pace so far; None before the first patch."""
        return self.seconds * (1 - self.share) / self.share if self.share else None

    def record(self) -> dict[str, Any]:
        """All numbers, plain, with what was read."""
        return {
            "patches": self.patches,
            "run": self.run,
            "skipped": self.skipped,
            "voxels": self.written,
            "seconds": self.seconds,
            "voxels_per_second": self.written / self.seconds if self.seconds else 0.0,
            **self.counters.record(),
        }
