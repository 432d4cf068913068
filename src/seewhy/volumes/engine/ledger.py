"""Progress notes of a prediction: which shards are written, by which run, and what remains after a kill."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import write_json
from seewhy.io.checks.sizes import check_regular_file
from seewhy.io.documents import read_json
from seewhy.io.zarr.source import Box
from seewhy.volumes.geometry import box_of
from seewhy.volumes.plan import Plan, Tile

__all__ = ["OUTPUT", "Coverage", "Ledger", "Output"]

RUN, STATISTICS, FINISHED = "run.json", "statistics.json", "finished.json"
OUTPUT = "output"
"""Key of the fingerprint for the identity of the output."""
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Output(Protocol):
    """Output of a run, as far as the ledger uses it.

    Attributes:
        identity: drawn when the output was created, so that a new one at the same path differs; None if unknown.
    """

    identity: str | None

    def reopen(self) -> None:
        """Called before more is written to an output that may have been finished."""

    def finish(self) -> None:
        """Called once everything is written."""


class Coverage:
    """Written shards of a volume, one flag per shard.

    Args:
        shape: of the volume, ZYX.
        shard: of the output, ZYX.
        boxes: written boxes; whole shards, or up to the volume's end.
    """

    def __init__(self, *, shape: Sequence[int], shard: Sequence[int], boxes: Iterable[Box] = ()) -> None:
        self.shard = tuple(shard)
        self.written = np.zeros([-(-n // s) for n, s in zip(shape, shard, strict=True)], dtype=bool)
        for box in boxes:
            self.written[self._shards(box)] = True

    def first_open_row(self, core: Box) -> int:
        """First row of a tile that is not written over the tile's whole width; the tile's end if all rows are."""
        rows = self.written[self._shards(core)].all(axis=(1, 2))
        if rows.all():
            return int(core[0].stop)
        return max(int(core[0].start), (core[0].start // self.shard[0] + int(rows.argmin())) * self.shard[0])

    def is_complete(self, region: Box) -> bool:
        """Whether a region is completely written."""
        return bool(self.written[self._shards(region)].all())

    def _shards(self, box: Box) -> tuple[slice, ...]:
        return tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.shard, strict=True)
        )


class Ledger:
    """Progress notes of a run in a folder, usually `<output>/.seewhy`, that all parts of the run share.

    `run.json` holds the fingerprint: everything that decides the output's bytes. Every part appends to its own file,
    `part-0002-of-0004.jsonl`, one line per row of shards, after the writes have returned, and syncs it; no file has
    two writers. An incomplete last line is ignored when reading. Any part of any later run reads all files, so a lost
    part can be restarted alone, and a run can be resumed with another number of parts or another memory budget:
    neither changes the output.

    Args:
        folder: shared by all parts; None keeps the notes in memory only, for a run that cannot be resumed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._boxes: list[Box] = []
        self._file: IO[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Folder of the notes.

        Raises:
            ValueError: the notes are kept in memory only.
        """
        if self._folder is None:
            raise ValueError("this ledger keeps its notes in memory and has no folder")
        return self._folder

    # -- one part of a plan ----------------------------------------------------------------------------------

    def start_part(
        self, plan: Plan, part: int, *, fingerprint: Callable[[], Mapping[str, Any]], output: Output
    ) -> list[tuple[Tile, int]]:
        """Start or resume one part of a plan.

        Args:
            plan: tiles and owners.
            part: of the plan.
            fingerprint: returns what decides the output's bytes; called only if the ledger has a folder.
            output: reopened if the region is not completely written.

        Returns:
            The tiles that are not complete, each with its first row that is not written.

        Raises:
            ConfigError: the run was started with other settings, or another process computes this part.
        """
        if self._folder is not None:
            self.begin({OUTPUT: output.identity, **fingerprint()})
            self.open_part(part, plan.parts)
            if not self.is_complete(plan):
                (self.folder / FINISHED).unlink(missing_ok=True)
                output.reopen()
        coverage = self.coverage(plan)
        rows = [(tile, coverage.first_open_row(tile.core)) for tile in plan.of(part)]
        return [(tile, row) for tile, row in rows if row < tile.core[0].stop]

    def coverage(self, plan: Plan) -> Coverage:
        """Shards that any part has written so far."""
        return Coverage(shape=plan.costs.grid.shape, shard=plan.costs.shard, boxes=self.committed())

    def is_complete(self, plan: Plan) -> bool:
        """Whether the plan's region is completely written."""
        return self.coverage(plan).is_complete(plan.region)

    def finish(self, plan: Plan, output: Output) -> bool:
        """Call the output's `finish` if the region is complete and no other part has done so; any part may call this.

        Returns:
            Whether the output is complete.
        """
        if not self.is_complete(plan):
            return False
        if self._folder is None:
            output.finish()
        else:
            self.finish_once(output.finish, region=plan.region)
        return True

    # -- files -----------------------------------------------------------------------------------------------

    def begin(self, fingerprint: Mapping[str, Any]) -> None:
        """Begin a run, or join one that was begun with the same fingerprint.

        Args:
            fingerprint: plain data, may be nested.

        Raises:
            ConfigError: the run was begun with another fingerprint (the keys that differ are listed), or for another
                output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / RUN
        ours = _flatten(json.loads(json.dumps(fingerprint)))
        if _create_json(path, fingerprint):
            return
        theirs = _flatten(self._read_note(path))
        missing = "(none)"
        changed = [
            f"{key}: {theirs.get(key, missing)} → {ours.get(key, missing)}"
            for key in sorted(ours.keys() | theirs.keys())
            if theirs.get(key, missing) != ours.get(key, missing)
        ]
        if ours.get(OUTPUT) != theirs.get(OUTPUT):
            raise ConfigError(
                f"{self.folder} holds notes of another output, or of an earlier one at the same path; choose "
                "another volume.job.ledger, or remove this folder to start again"
            )
        if changed:
            raise ConfigError(
                f"{self.folder.parent} was begun with other settings ({'; '.join(changed)}); restore them to resume, "
                "choose another output, or set volume.overwrite=true"
            )

    def open_part(self, part: int, parts: int) -> None:
        """Open this part's file for commits.

        Raises:
            ConfigError: another process has it open.
        """
        path = self.folder / f"part-{part:04d}-of-{parts:04d}.jsonl"
        file = path.open("a+b")
        if not _try_lock(file):
            file.close()
            raise ConfigError(f"part {part} of {parts} of {self.folder.parent} is being computed by another process")
        # A line that a kill cut off must not become the start of the next line.
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        self._file = file

    def commit(self, box: Box) -> None:
        """Record that all voxels of a box are written; with a folder, returns once the line is on disk.

        Raises:
            ValueError: the part's file is not open.
        """
        if self._folder is None:
            self._boxes.append(box)
            return
        if self._file is None:
            raise ValueError("call open_part before commit")
        line = json.dumps([[axis.start, axis.stop] for axis in box])
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def committed(self) -> list[Box]:
        """All boxes that any part has committed."""
        boxes = list(self._boxes)
        for path in sorted(self._folder.glob("part-*.jsonl")) if self._folder is not None else ():
            check_regular_file(path)
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
                boxes.append(self._parse_line(line, f"{path}, line {number}"))
        return boxes

    def _parse_line(self, line: bytes, where: str) -> Box:
        """Parse a committed box; a damaged line must not count as written."""
        try:
            pairs = [(int(start), int(stop)) for start, stop in json.loads(line)]
            if len(pairs) != 3 or not all(0 <= start < stop for start, stop in pairs):
                raise ValueError("expected three pairs of first and last voxel")
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigError(f"{where} is damaged ({error}); {self._remedy}") from error
        return box_of(*zip(*pairs, strict=True))

    def _read_note(self, path: Path) -> dict[str, Any]:
        """Read a JSON file of the ledger."""
        try:
            note: dict[str, Any] = read_json(path)
        except DataError as error:
            raise ConfigError(f"{error}; {self._remedy}") from error
        return note

    @property
    def _remedy(self) -> str:
        return f"the notes in {self.folder} cannot be continued: start again with volume.overwrite=true"

    def statistics(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Statistics of the input, measured by the first part that needs them while the others wait.

        Args:
            measure: returns plain data; called at most once per run if the file system supports locks.
        """
        if self._folder is None:
            return measure()
        path = self.folder / STATISTICS
        with _locked(self.folder / "statistics.lock"):
            if not path.exists():
                write_json(path, measure())
        return self._read_note(path)

    def finish_once(self, action: Callable[[], Any], *, region: Box) -> bool:
        """Call `action` unless a part has already done so for this region; other parts wait until it returns.

        Returns:
            Whether it was called here.
        """
        note = {"region": [[axis.start, axis.stop] for axis in region]}
        path = self.folder / FINISHED
        with _locked(self.folder / "finish.lock"):
            if path.exists() and self._read_note(path) == note:
                return False
            action()
            write_json(path, note)
        return True

    def clear(self, *, output: str | None = None) -> None:
        """Delete the notes of an earlier run whose output was removed; only files that a ledger writes are deleted.

        Args:
            output: identity of the present output; its notes, written by a part that started earlier, are kept.
        """
        # Listed before the run is read: a part writes its run first, so the files of a part of this output that
        # started earlier are never listed without its run being seen. The run is deleted last: after a kill, what
        # remains is still recognised as notes of another output.
        doomed = [path for pattern in ("part-*.jsonl", FINISHED, STATISTICS, RUN) for path in self.folder.glob(pattern)]
        try:
            noted = read_json(self.folder / RUN).get(OUTPUT)
        except DataError:
            noted = None
        if output is not None and noted == output:
            return
        for path in doomed:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close this part's file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _create_json(path: Path, record: Mapping[str, Any]) -> bool:
    """Create a JSON file atomically; False if it exists, even if another process creates it at the same time."""
    if path.exists():
        return False
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    write_json(temporary, record)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links on this file system: the last writer wins, and all compare equal or fail later
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _flatten(record: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one with dotted keys."""
    if not isinstance(record, Mapping):
        return {prefix: record}
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _try_lock(file: IO[Any]) -> bool:
    """Lock an open file until the process ends; False if another process holds the lock, True without lock support."""
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
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs, waiting for other processes; does not wait without lock support."""
    with path.open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield
