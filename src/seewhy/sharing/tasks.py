"""Tasks that any number of processes complete together, and rounds of them: each is claimed, done and noted."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from seewhy.errors import DataError
from seewhy.io.atomic import write_json
from seewhy.sharing.claims import FileClaims
from seewhy.sharing.notes import Notes
from seewhy.sharing.workers import LEASE, Workers

__all__ = ["SharedRound", "SharedTasks", "Task"]

SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.25
"""Seconds between two looks at what the others have done."""
LOOK = 0.5
"""Seconds after which a process that finds work looks again at what the others have claimed and done."""
FINISHED = "finished.json"


class Task(NamedTuple):
    """One piece of work.

    Attributes:
        key: letters, digits and hyphens; part of file names.
        needs: keys of the tasks that must be done before.
    """

    key: str
    needs: frozenset[str] = frozenset()


class SharedTasks:
    """Tasks that any number of processes complete together.

    A process claims a task before it begins, and notes its key when the task is done. Tasks of a lost process are
    claimed anew by one other process. Notes stay, so that a later process does only what is left; a task whose
    process was lost before it could note it is done again, and must then give the same.

    Args:
        folder: shared by all processes.
        workers: presence of the processes; this one must have joined before it claims.
        kind: of the tasks; begins the names of their files.

    Attributes:
        done: results of the tasks that are done, by key, as far as this process has looked.
        taken_over: tasks of lost processes that this one has claimed and found undone.
        waited: seconds in which this process had nothing to do.

    Example:
        >>> from pathlib import Path
        >>> from seewhy.sharing.tasks import SharedTasks, Task
        >>> from seewhy.sharing.workers import Workers
        >>> workers = Workers(Path("notes"))
        >>> with workers.present():
        ...     tasks = SharedTasks(Path("notes"), workers, kind="cases")
        ...     for task in tasks.each([Task("b", needs=frozenset("a")), Task("a")]):
        ...         print(task.key)
        a
        b
    """

    def __init__(self, folder: Path, workers: Workers, *, kind: str) -> None:
        self.claims, self._notes = FileClaims(folder / f"claims-{kind}", workers), Notes(folder, kind)
        self.done: dict[str, Any] = {}
        self.taken_over, self.waited = 0, 0.0
        self._mine: set[str] = set()
        self._looked = -LOOK

    def each(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Claim one task after the other until all are done, waiting for other processes where nothing is free.

        Yields:
            Tasks of this process. Each counts as done when the next one is asked for; call `complete` before that to
            give a result.
        """
        pause = SHORTEST_WAIT
        self.refresh()
        while left := [task for task in tasks if task.key not in self.done]:
            for task in self.claim(left):
                pause = SHORTEST_WAIT
                yield task
                if task.key not in self.done:
                    self.complete(task)
            self.refresh()
            if all(task.key in self.done for task in left):
                continue
            if not self._is_any_free(left):
                began = time.monotonic()
                time.sleep(pause)
                self.waited += time.monotonic() - began
                pause = min(2 * pause, LONGEST_WAIT)

    def claim(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Claim those of some tasks, one after the other, that can be done now and are free; never waits.

        Yields:
            Tasks of this process; call `complete` for each.
        """
        for task in tasks:
            if time.monotonic() - self._looked > LOOK:
                self.refresh()
            lost = sum(self.claims.taken_over.values())
            if not self._can_begin(task) or not (task.key in self._mine or self.claims.take(task.key)):
                continue
            self._mine.add(task.key)
            self._read_notes()  # its process may have noted it, and left, since the last look
            if task.key not in self.done:
                self.taken_over += sum(self.claims.taken_over.values()) - lost
                yield task

    def complete(self, task: Task, result: Any = None) -> None:
        """Note that a task is done.

        Args:
            task: claimed by this process.
            result: plain data for other processes, read from `done`.
        """
        if not self._notes.is_open:
            self._notes.open(self.claims.workers.name)
        self._notes.append([task.key, result])
        self.done[task.key] = result

    def refresh(self) -> None:
        """Look at what all processes have claimed and done; a damaged line counts as not done."""
        self.claims.refresh()
        self._read_notes()
        self._looked = time.monotonic()

    def close(self) -> None:
        """Close the notes of this process."""
        self._notes.close()

    def _read_notes(self) -> None:
        for line, _ in self._notes.read_new_lines():
            try:
                key, result = json.loads(line)
                self.done.setdefault(str(key), result)
            except (ValueError, TypeError, RecursionError):
                continue

    def _can_begin(self, task: Task) -> bool:
        return task.key not in self.done and task.needs <= self.done.keys()

    def _is_any_free(self, tasks: Iterable[Task]) -> bool:
        return any(
            self._can_begin(task) and (task.key in self._mine or not self.claims.holders(task.key)) for task in tasks
        )


# -- rounds ---------------------------------------------------------------------------------------------------


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
        >>> from seewhy.sharing.tasks import SharedRound
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

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Use results of tasks in this block; where they are lost, the round ends, and the next command begins anew."""
        try:
            yield
        except DataError:
            self.finish()
            raise

    def finish(self) -> None:
        """End the round: processes that start later begin the next one."""
        if not (self.folder / FINISHED).exists():
            write_json(self.folder / FINISHED, {"tasks": len(self.tasks.done)})


def _name(number: int) -> str:
    return f"round-{number:04d}"
