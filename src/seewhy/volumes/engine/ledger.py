"""What a run has written, and with which settings: the notes from which it goes on after a kill.

Locks on files that the system lifts when a process dies.

Which shards of the output are written.

What of a plan is written, by whichever part, and what is left to one of them.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.io.zarr.source import Box
from seewhy.volumes.geometry import box_of
from seewhy.volumes.plan import Plan, Unit

__all__ = ["OUTPUT", "Coverage", "Ledger", "Notes", "locked", "try_lock"]

BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file; False when another process holds it. File systems without locks always give True."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in BUSY
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs, waiting for other processes; no wait where there are no locks."""
    with path.open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield


class Coverage:
    """One flag per shard.

    Args:
        shape: the volume, ZYX.
        shard: of the output, ZYX.
        boxes: what is written; whole shards, or to the volume's end.
    """

    def __init__(self, *, shape: Sequence[int], shard: Sequence[int], boxes: Iterable[Box] = ()) -> None:
        self.shard = tuple(shard)
        self.written = np.zeros([-(-n // s) for n, s in zip(shape, shard, strict=True)], dtype=bool)
        for box in boxes:
            self.written[self._shards(box)] = True

    def first_open_row(self, core: Box) -> int:
        """The first row of a tile that is not written in its whole breadth; its end where all are."""
        rows = self.written[self._shards(core)].all(axis=(1, 2))
        if rows.all():
            return int(core[0].stop)
        return max(int(core[0].start), (core[0].start // self.shard[0] + int(rows.argmin())) * self.shard[0])

    def complete(self, region: Box) -> bool:
        """Whether all of a region is written."""
        return bool(self.written[self._shards(region)].all())

    def _shards(self, box: Box) -> tuple[slice, ...]:
        return tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.shard, strict=True)
        )


RUN, STATISTICS, FINISHED = "run.json", "statistics.json", "finished.json"
OUTPUT = "output"
"""Key of the fingerprint for the identity of the output."""


class Ledger:
    """A folder of notes, usually `<output>/.seewhy`, that all parts of a run share.

    `run.json` holds the fingerprint: whatever decides the output's bytes. Every part appends to a file of its own,
    `part-0002-of-0004.jsonl`, one line per row of shards, after the writes have returned, and syncs it; no file has
    two writers. A half-written last line is left out when reading. Any part of any later run reads all of them, so
    that a lost part can be started again alone and a run can be taken up with another number of parts or another
    memory budget: neither changes the output.

    Args:
        folder: where the notes lie; one that all parts see.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._file: IO[bytes] | None = None

    def start(self, fingerprint: Mapping[str, Any]) -> None:
        """Begin a run, or join one that was begun with the same fingerprint.

        Args:
            fingerprint: plain data, may be nested.

        Raises:
            ConfigError: when the run was begun with another one; the differing keys are named. Or it is of another
                output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / RUN
        ours = _flat(json.loads(json.dumps(fingerprint)))
        if _create(path, fingerprint):
            return
        theirs = _flat(json.loads(path.read_text(encoding="utf-8")))
        missing = "(none)"
        changed = [
            f"{key}: {theirs.get(key, missing)} → {ours.get(key, missing)}"
            for key in sorted(ours.keys() | theirs.keys())
            if theirs.get(key, missing) != ours.get(key, missing)
        ]
        if ours.get(OUTPUT) != theirs.get(OUTPUT):
            raise ConfigError(
                f"{self.folder} holds notes of another output, or of one that was at its path before; choose another "
                "volume.ledger, or remove this one to begin anew"
            )
        if changed:
            raise ConfigError(
                f"{self.folder.parent} was begun with other settings ({'; '.join(changed)}); set them back to go on, "
                "or choose another output, or overwrite it"
            )

    def open_part(self, part: int, parts: int) -> None:
        """Open this part's file for commits.

        Raises:
            ConfigError: when another process has it open.
        """
        path = self.folder / f"part-{part:04d}-of-{parts:04d}.jsonl"
        file = path.open("a+b")
        if not try_lock(file):
            file.close()
            raise ConfigError(f"part {part} of {parts} of {self.folder.parent} is being computed by another process")
        # What a kill left of a line must not become the start of the next one.
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        self._file = file

    def commit(self, box: Box) -> None:
        """Note that all voxels of a box are written; returns when the note is on disk."""
        assert self._file is not None, "open_part comes first"
        line = json.dumps([[axis.start, axis.stop] for axis in box])
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def committed(self) -> list[Box]:
        """All boxes that any part has noted."""
        boxes = []
        for path in sorted(self.folder.glob("part-*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                starts, stops = zip(*json.loads(line), strict=True)
                boxes.append(box_of(starts, stops))
        return boxes

    def statistics(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The input's statistics, measured by the first part that needs them while the others wait.

        Args:
            measure: gives plain data; called at most once per run where the file system has locks.
        """
        path = self.folder / STATISTICS
        with locked(self.folder / "statistics.lock"):
            if not path.exists():
                write_json(path, measure())
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return result

    def finish_once(self, action: Callable[[], Any], *, region: Box) -> bool:
        """Call `action` unless some part has done it for this region; the others wait until it is done.

        Returns:
            Whether it was called here.
        """
        note = {"region": [[axis.start, axis.stop] for axis in region]}
        path = self.folder / FINISHED
        with locked(self.folder / "finish.lock"):
            if path.exists() and json.loads(path.read_text(encoding="utf-8")) == note:
                return False
            action()
            write_json(path, note)
        return True

    def reopen(self) -> None:
        """Forget that all was finished: more is to be written."""
        (self.folder / FINISHED).unlink(missing_ok=True)

    def clear(self, *, output: str | None = None) -> None:
        """Forget an earlier run, whose output is gone; only files that a ledger makes are deleted.

        Args:
            output: identity of the output that is there now: its notes, of a part that was faster, stay.
        """
        # Listed before the run is read: a part notes its run first, so that none of a faster part of ours is listed
        # without its run being seen. The run goes last: what a kill leaves is then known to be of another output.
        doomed = [path for pattern in ("part-*.jsonl", FINISHED, STATISTICS, RUN) for path in self.folder.glob(pattern)]
        try:
            known = json.loads((self.folder / RUN).read_text(encoding="utf-8")).get(OUTPUT)
        except (OSError, ValueError, AttributeError):
            known = None
        if output is not None and known == output:
            return
        for path in doomed:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give this part's file back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _create(path: Path, record: Mapping[str, Any]) -> bool:
    """Write a JSON file unless it exists, whole or not at all, whoever else tries at the same time."""
    if path.exists():
        return False
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    write_json(own, record)
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the last one wins, and all compare equal or fail at their next start
        os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)
    return True


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    if not isinstance(record, Mapping):
        return {prefix: record}
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


class Notes:
    """The ledger of a plan, or, without one, the memory of this process.

    Args:
        plan: tiles and owners.
        ledger: shared by all parts; None keeps nothing beyond this object.
    """

    def __init__(self, plan: Plan, ledger: Ledger | None) -> None:
        self.plan, self.ledger = plan, ledger
        self._boxes: list[Box] = []

    def start(
        self, fingerprint: Callable[[], Mapping[str, Any]], part: int, *, sink: Any = None
    ) -> list[tuple[Unit, int]]:
        """Begin, or go on with, one part.

        Args:
            fingerprint: gives what decides the output's bytes; asked for only where there is a ledger.
            part: of the plan.
            sink: told by its `reopen`, if it has one, that it is not finished, where not all is written.

        Returns:
            The tiles that are not complete, each with the first row that is not written.

        Raises:
            ConfigError: when the run was begun with other settings, or another process computes this part.
        """
        if self.ledger is not None:
            self.ledger.start({OUTPUT: getattr(sink, "identity", None), **fingerprint()})
            self.ledger.open_part(part, self.plan.parts)
            if not self.complete and hasattr(sink, "reopen"):
                self.ledger.reopen()
                sink.reopen()
        coverage = self.coverage()
        rows = [(unit, coverage.first_open_row(unit.core)) for unit in self.plan.of(part)]
        return [(unit, row) for unit, row in rows if row < unit.core[0].stop]

    def commit(self, box: Box) -> None:
        """Note a box whose writes have returned."""
        if self.ledger is not None:
            self.ledger.commit(box)
        self._boxes.append(box)

    def coverage(self) -> Coverage:
        """What all parts have written so far."""
        boxes = self._boxes if self.ledger is None else self.ledger.committed()
        return Coverage(shape=self.plan.costs.grid.shape, shard=self.plan.costs.shard, boxes=boxes)

    @property
    def complete(self) -> bool:
        """Whether all of the region is written."""
        return self.coverage().complete(self.plan.region)

    def finish(self, sink: Any) -> bool:
        """Let a sink finish, once, when all is written; any part may try.

        Args:
            sink: its `finish` is called, if it has one.

        Returns:
            Whether the output is complete.
        """
        if not self.complete:
            return False
        action = getattr(sink, "finish", None)
        if action is not None and self.ledger is not None:
            self.ledger.finish_once(action, region=self.plan.region)
        elif action is not None:
            action()
        return True

    def close(self) -> None:
        """Give the part's file back."""
        if self.ledger is not None:
            self.ledger.close()
