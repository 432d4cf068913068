"""Claims on pieces of work: files that exactly one process can create, with take-over from processes that are lost."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from seewhy.io.atomic import create_exclusively
from seewhy.sharing.workers import Workers

__all__ = ["Board", "Claims", "FileClaims", "MemoryClaims"]

POLL = 0.05
"""Seconds between two looks at what another process does once for all."""
MOMENT = 2.0
"""Seconds for which an empty claim counts as one that is being written."""
UNKNOWN = "?"
NAME = re.compile(r"([0-9A-Za-z-]+)-g([0-9]+)")
"""Names of claims: the key of a piece, and the generation."""


class Claims(Protocol):
    """Who works on which piece.

    Attributes:
        taken_over: pieces that were claimed from each lost process.
    """

    taken_over: dict[str, int]

    def take(self, key: str) -> bool:
        """Claim a piece unless a living process has claimed it."""

    def help(self, key: str) -> bool:
        """Claim a piece that a living process has claimed, too; False if another helper was faster."""

    def holders(self, key: str) -> list[str]:
        """Living processes that have claimed a piece, the latest last."""

    def claimed(self) -> list[str]:
        """Pieces that were ever claimed, as far as this process has looked."""

    def refresh(self) -> None:
        """Look for claims of other processes."""

    def pace(self, name: str) -> float | None:
        """Seconds per unit of a process; None if unknown."""


class Board:
    """Claims of processes that share one memory: a process alone, or simulated ones.

    Attributes:
        claims: names by piece, the latest last.
        lost: processes that count as lost.
        paces: seconds per unit by name.
    """

    def __init__(self) -> None:
        self.claims: dict[str, list[str]] = {}
        self.lost: set[str] = set()
        self.paces: dict[str, float] = {}


class MemoryClaims:
    """Claims on a `Board`.

    Args:
        board: where claims are kept; None for a process alone.
        name: of the process.
    """

    def __init__(self, board: Board | None = None, name: str = "0000") -> None:
        self.board, self.name = Board() if board is None else board, name
        self.taken_over: dict[str, int] = {}

    def take(self, key: str) -> bool:
        """Claim a piece unless a living process has claimed it."""
        earlier = self.board.claims.get(key, [])
        if self.holders(key):
            return False
        if earlier:
            self.taken_over[earlier[-1]] = self.taken_over.get(earlier[-1], 0) + 1
        return self.help(key)

    def help(self, key: str) -> bool:
        """Claim a piece that a living process has claimed, too."""
        self.board.claims.setdefault(key, []).append(self.name)
        return True

    def holders(self, key: str) -> list[str]:
        """Living processes that have claimed a piece, the latest last."""
        return [name for name in self.board.claims.get(key, []) if name not in self.board.lost]

    def claimed(self) -> list[str]:
        """Pieces that were ever claimed."""
        return list(self.board.claims)

    def refresh(self) -> None:
        """Do nothing: the board is always up to date."""

    def pace(self, name: str) -> float | None:
        """Seconds per unit of a process; None if unknown."""
        return self.board.paces.get(name)


class FileClaims:
    """Claims as files `<key>-g<generation>` with the name of the process.

    The first claim on a piece is generation 0. A piece of a lost process is claimed as the next generation, so of
    several processes that see the loss exactly one takes over. Files are never deleted or changed while a run lasts:
    a process that wakes up after its lease finds the later generation.

    Args:
        folder: shared by all processes.
        workers: knows who is alive.
    """

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.folder, self.workers = folder, workers
        self.taken_over: dict[str, int] = {}
        self._claims: dict[str, dict[int, str]] = {}
        self._empty: dict[tuple[str, int], float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, key: str) -> bool:
        """Claim a piece unless a living process has claimed it."""
        while True:
            known = self._claims.get(key, {})
            owner = known[max(known)] if known else None
            if self.holders(key):
                return False
            generation = max(known, default=-1) + 1
            if self._create(key, generation):
                if owner:
                    self.taken_over[owner] = self.taken_over.get(owner, 0) + 1
                return True

    def help(self, key: str) -> bool:
        """Claim a piece that a living process has claimed, too; False if another helper was faster."""
        return self._create(key, max(self._claims.get(key, {}), default=-1) + 1)

    def holders(self, key: str) -> list[str]:
        """Living processes that have claimed a piece, the latest last."""
        known = self._claims.get(key, {})
        names = []
        for generation in sorted(known):
            # The owner of an empty file is between creating and writing it, or was killed there.
            known[generation] = known[generation] or self._read_holder(key, generation)
            if known[generation] and self.workers.is_alive(known[generation]):
                names.append(known[generation])
            elif not known[generation]:
                since = self._empty.setdefault((key, generation), time.monotonic())
                names += [UNKNOWN] if time.monotonic() - since < MOMENT else []
        return names

    def claimed(self) -> list[str]:
        """Pieces that were ever claimed, as far as this process has looked."""
        return list(self._claims)

    def refresh(self) -> None:
        """Look for claims of other processes."""
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries]
        for match in filter(None, map(NAME.fullmatch, names)):
            key, generation = match[1], int(match[2])
            if generation not in self._claims.get(key, {}):
                self._claims.setdefault(key, {})[generation] = self._read_holder(key, generation)

    def pace(self, name: str) -> float | None:
        """Seconds per unit of a process; None if unknown."""
        worker = self.workers.read_worker(name)
        return None if worker is None else worker.pace

    def do_once(self, key: str, is_done: Callable[[], bool], action: Callable[[], object]) -> bool:
        """Do something that one process does for all, or wait until it is done; one that is lost is replaced.

        Returns:
            Whether it was done here.
        """
        while not is_done():
            if self.take(key):
                if is_done():
                    return False
                action()
                return True
            time.sleep(min(POLL, self.workers.lease / 10))
        return False

    def _create(self, key: str, generation: int) -> bool:
        created = create_exclusively(self.folder / f"{key}-g{generation}", self.workers.name.encode())
        # A listing may lag behind on a network file system; the file that was in the way is read by its name.
        self._claims.setdefault(key, {})[generation] = (
            self.workers.name if created else self._read_holder(key, generation)
        )
        return created

    def _read_holder(self, key: str, generation: int) -> str:
        try:
            return (self.folder / f"{key}-g{generation}").read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""
