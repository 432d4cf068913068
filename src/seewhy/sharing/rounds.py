"""Rounds of work in a folder: processes that start before the end of a round take part in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seewhy.io.atomic import write_json
from seewhy.sharing.tasks import SharedTasks, Task
from seewhy.sharing.workers import LEASE, Workers

__all__ = ["SharedRound"]

FINISHED = "finished.json"


class SharedRound:
    """The present round of some tasks in a folder, which ends when all of them are done.

    A process that starts later begins the next round, and so looks at everything again; one that starts after all
    processes were killed continues the round.

    Args:
        folder: of all rounds, shared by all processes; it belongs to one list of tasks.
        lease: seconds without a heartbeat after which a process of another machine counts as lost.

    Attributes:
        tasks: claims and results of this round.

    Example:
        >>> from pathlib import Path
        >>> from seewhy.sharing.rounds import SharedRound
        >>> from seewhy.sharing.tasks import Task
        >>> for _ in range(2):
        ...     with SharedRound.join(Path("rounds")) as present:
        ...         print(present.folder.name, [task.key for task in present.each([Task("a"), Task("b")])])
        round-0000 ['a', 'b']
        round-0001 ['a', 'b']
    """

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.folder, self.workers = folder, workers
        self.tasks = SharedTasks(folder, workers, kind="tasks")

    @classmethod
    @contextmanager
    def join(cls, folder: Path, *, lease: float = LEASE) -> Iterator[SharedRound]:
        """Take part in the round that is not finished, or begin the next; leaves it at the end of the block."""
        numbers = sorted(int(path.name[-4:]) for path in folder.glob("round-[0-9][0-9][0-9][0-9]"))
        last = numbers[-1] if numbers else 0
        number = last + (folder / _name(last) / FINISHED).exists()
        for old in numbers[:-2]:  # processes that have just finished the last one may still read it
            shutil.rmtree(folder / _name(old), ignore_errors=True)
        workers = Workers(folder / _name(number), lease=lease)
        with workers.present():
            present = cls(workers.folder, workers)
            try:
                yield present
            finally:
                present.tasks.close()

    def each(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Claim one task after the other until all are done, see `SharedTasks.each`; then the round is finished."""
        yield from self.tasks.each(tasks)
        self.finish()

    def finish(self) -> None:
        """End the round: processes that start later begin the next one."""
        if not (self.folder / FINISHED).exists():
            write_json(self.folder / FINISHED, {"tasks": len(self.tasks.done)})


def _name(number: int) -> str:
    return f"round-{number:04d}"
