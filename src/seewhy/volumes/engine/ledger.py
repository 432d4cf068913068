"""Progress notes of a prediction: which shards are written, by which run, who works, and what remains after a kill."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import create_json, write_json
from seewhy.io.documents import read_json
from seewhy.io.zarr.source import Box
from seewhy.sharing.claims import Claims, FileClaims, MemoryClaims
from seewhy.sharing.notes import Notes, list_differences
from seewhy.sharing.tasks import SharedTasks
from seewhy.sharing.workers import LEASE, Workers
from seewhy.volumes.engine.coverage import CoarseLevels, Coverage, Levelled, list_parts
from seewhy.volumes.engine.work import WorkQueue
from seewhy.volumes.geometry import box_of
from seewhy.volumes.plan import Plan

__all__ = ["OUTPUT", "Ledger", "Output"]

RUN, STATISTICS, FINISHED = "run.json", "statistics.json", "finished.json"
COMMITS, LEVELS = "part", "levels"
"""Kinds of notes: of written shards, and of parts of the coarser levels."""
ONCE = "claims-once"
"""Folder of the claims on what one process does for all."""
OUTPUT = "output"
"""Key of the fingerprint for the identity of the output."""


class Output(Levelled, Protocol):
    """Output of a run, as far as the ledger uses it.

    Attributes:
        identity: drawn when the output was created, so that a new one at the same path differs; None if unknown.
    """

    identity: str | None

    def reopen(self) -> None:
        """Called before more is written to an output that may have been finished."""

    def seal(self) -> None:
        """Called once everything is written and all coarser levels are built."""


class Ledger:
    """Progress notes of a run in a folder, usually `<output>/.seewhy`, that all processes of the run share.

    `run.json` holds the fingerprint: everything that decides the output's bytes. Every process appends to its own file,
    `part-0002.jsonl`, one line per row of shards, after the writes have returned, and syncs it; no file has two
    writers. An incomplete last line is ignored when reading. Any process of any later run reads all files, so a run can
    be resumed with another number of processes or another memory budget: neither changes the output.

    `plan-0000.json` holds the columns of the processes that work together, `claims-0000/` who computes which unit,
    `worker-0002.json` who is alive, `levels-0002.jsonl` which parts of the coarser levels are built. A later run with a
    plan that does not fit begins the next number.

    Args:
        folder: shared by all processes; None keeps the notes in memory only, for one process that cannot be resumed.
        lease: seconds without a heartbeat after which a process of another machine counts as lost.
    """

    def __init__(self, folder: str | Path | None = None, *, lease: float = LEASE) -> None:
        self._folder = None if folder is None else Path(folder)
        self._workers = None if self._folder is None else Workers(self._folder, lease=lease)
        self._boxes: list[Box] = []
        self._commits = None if self._folder is None else Notes(self._folder, COMMITS)
        self._levels: CoarseLevels | None = None
        self._updating = threading.Lock()
        self.waited = 0.0
        """Seconds in which this process waited for others at the end."""

    @property
    def folder(self) -> Path:
        """Folder of the notes.

        Raises:
            ValueError: the notes are kept in memory only.
        """
        if self._folder is None:
            raise ValueError("this ledger keeps its notes in memory and has no folder")
        return self._folder

    @property
    def workers(self) -> Workers:
        """Presence of the processes that share the folder.

        Raises:
            ValueError: the notes are kept in memory only.
        """
        if self._workers is None:
            raise ValueError("this ledger keeps its notes in memory and is not shared")
        return self._workers

    @property
    def name(self) -> str:
        """Name of this process among all that ever shared the folder; `0000` in memory."""
        return self._workers.name if self._workers is not None and self._workers.has_joined else "0000"

    # -- one process ----------------------------------------------------------------------------------------------

    def start(
        self, plan: Plan, part: int = 0, *, fingerprint: Callable[[], Mapping[str, Any]], output: Output
    ) -> WorkQueue:
        """Start, resume or join the work on a plan.

        Args:
            plan: tiles, where no other process is at work; otherwise its columns are used.
            part: place among the expected processes at which this one prefers to start.
            fingerprint: returns what decides the output's bytes; called only if the ledger has a folder.
            output: reopened if the region is not completely written.

        Raises:
            ConfigError: the run was started with other settings, or other processes write another region or use tiles
                that do not fit into this process's memory budget.
        """
        claims: Claims = MemoryClaims()
        if self._folder is not None:
            self.begin({OUTPUT: output.identity, **fingerprint()})
            self.workers.join()
            try:
                plan, claims = self._agree(plan)
            except BaseException:
                self.workers.leave()
                raise
            self.open_notes()
            if not self.is_complete(plan):
                (self.folder / FINISHED).unlink(missing_ok=True)
                output.reopen()
        coverage = self.coverage(plan)
        levels = self._levels = None if self._folder is None else self._open_levels(plan, output)
        return WorkQueue(
            plan,
            claims=claims,
            part=part,
            read_written=lambda: self._update(coverage).units(plan),
            commit=self.commit,
            build=lambda: levels is not None and levels.build_next(self._update(coverage)),
        )

    def _open_levels(self, plan: Plan, output: Output) -> CoarseLevels:
        return CoarseLevels(output, SharedTasks(self.folder, self.workers, kind=LEVELS), region=plan.region)

    def _agree(self, plan: Plan) -> tuple[Plan, Claims]:
        """Use the columns of the processes at work, or make this plan theirs."""
        others = self.workers.others()
        number = max((int(path.stem[-4:]) for path in self.folder.glob("plan-[0-9][0-9][0-9][0-9].json")), default=0)
        while True:
            path = self.folder / f"plan-{number:04d}.json"
            create_json(path, plan.record())
            try:
                agreed = plan.adopt(self._read_note(path))
            except (ValueError, TypeError, KeyError, AttributeError):
                agreed = None
            fits = agreed is not None and agreed.memory.total <= plan.budget
            if agreed is not None and (agreed.record() == plan.record() or (fits and others)):
                return agreed, FileClaims(self.folder / f"claims-{number:04d}", self.workers)
            if others:
                places = ", ".join(worker.place for worker in others)
                difference = (
                    "another volume.roi; wait for its end, or choose the same"
                    if agreed is None
                    else f"tiles of {agreed.memory.total / 1e6:.0f} MB; raise memory_budget to join them"
                )
                raise ConfigError(f"{self.folder.parent} is being written by {places} with {difference}")
            number += 1

    def coverage(self, plan: Plan) -> Coverage:
        """Shards that any process has written so far."""
        return Coverage(shape=plan.costs.grid.shape, shard=plan.costs.shard, boxes=self.committed())

    def _update(self, coverage: Coverage) -> Coverage:
        """Add what was committed since the last call."""
        with self._updating:
            for box in (*self._parse(self._commits), *self._boxes):
                coverage.add(box)
        return coverage

    def is_complete(self, plan: Plan) -> bool:
        """Whether the plan's region is completely written."""
        return self.coverage(plan).is_complete(plan.region)

    def finish(self, plan: Plan, output: Output) -> bool:
        """Build the coarser levels and seal the output, once the region is complete.

        All processes that call this share the parts of the levels; one seals the output while the others wait.

        Returns:
            Whether the output is complete.
        """
        coverage = self.coverage(plan)
        if not coverage.is_complete(plan.region):
            return False
        if self._folder is None:
            for level, index in list_parts(coverage.written.shape, output.levels):
                output.build_part(level, index)
            output.seal()
        elif not self._is_finished(plan.region):
            with self.workers.present():
                levels = self._levels = self._open_levels(plan, output)
                levels.build_all(coverage)
                levels.close()
                began = time.monotonic()
                sealed = self.finish_once(output.seal, region=plan.region)
                self.waited += levels.waited + (0.0 if sealed else time.monotonic() - began)
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
        if create_json(path, fingerprint):
            return
        theirs = self._read_note(path)
        changed = list_differences(theirs, fingerprint)
        if fingerprint.get(OUTPUT) != theirs.get(OUTPUT):
            raise ConfigError(
                f"{self.folder} holds notes of another output, or of an earlier one at the same path; choose "
                "another volume.job.ledger, or remove this folder to start again"
            )
        if changed:
            raise ConfigError(
                f"{self.folder.parent} was begun with other settings ({'; '.join(changed)}); restore them to resume, "
                "choose another output, or set volume.overwrite=true"
            )

    def open_notes(self) -> None:
        """Open this process's file for commits; it must have joined."""
        assert self._commits is not None
        self._commits.open(self.workers.name)

    def commit(self, box: Box) -> None:
        """Record that all voxels of a box are written; with a folder, returns once the line is on disk.

        Raises:
            ValueError: the process's file is not open.
        """
        if self._folder is None:
            self._boxes.append(box)
            return
        assert self._commits is not None
        self._commits.append([[axis.start, axis.stop] for axis in box])

    def committed(self) -> list[Box]:
        """All boxes that any process has committed."""
        return [*self._boxes, *self._parse(None if self._folder is None else Notes(self._folder, COMMITS))]

    def _parse(self, notes: Notes | None) -> Iterator[Box]:
        """Boxes of the lines that were not read before."""
        for line, where in () if notes is None else notes.read_new_lines():
            yield self._parse_line(line, where)

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
        """Statistics of the input, measured by the first process that needs them while the others wait.

        Args:
            measure: returns plain data; called once per run, and again if the process that called it is lost.
        """
        if self._folder is None:
            return measure()
        path = self.folder / STATISTICS
        self._do_once("statistics", path.exists, lambda: write_json(path, measure()))
        return self._read_note(path)

    def finish_once(self, action: Callable[[], Any], *, region: Box) -> bool:
        """Call `action` unless a process has already done so for this region; other processes wait until it returns.

        Returns:
            Whether it was called here.
        """
        note = _note_region(region)
        key = "finish-" + "-".join(str(end) for span in note["region"] for end in span)
        return self._do_once(
            key, lambda: self._is_finished(region), lambda: (action(), write_json(self.folder / FINISHED, note))
        )

    def _is_finished(self, region: Box) -> bool:
        path = self.folder / FINISHED
        return path.exists() and self._read_note(path) == _note_region(region)

    def _do_once(self, key: str, is_done: Callable[[], bool], action: Callable[[], Any]) -> bool:
        """Let one process do something; one that is lost is replaced. True if it was done here."""
        with self.workers.present():
            return FileClaims(self.folder / ONCE, self.workers).do_once(key, is_done, action)

    def publish(self, pace: float | None) -> None:
        """Tell other processes the seconds per unit of this one, with the next heartbeat."""
        if self._workers is not None:
            self._workers.pace = pace

    def check_member(self) -> None:
        """Check that the notes are still those of this process's run.

        Raises:
            ConfigError: the output was replaced while this process was stopped.
        """
        if self._workers is not None and not self._workers.is_member():
            raise ConfigError(f"{self.folder.parent} was replaced or removed while this process was working on it")

    @property
    def is_used(self) -> bool:
        """Whether other processes are at work, or any has written something."""
        return bool(self.committed()) or (self._workers is not None and bool(self._workers.others()))

    def check_unused(self) -> None:
        """Check that no other process is at work, before an output is replaced or becomes one file.

        Raises:
            ConfigError: there is one.
        """
        others = [] if self._workers is None else self._workers.others()
        if others:
            places = ", ".join(worker.place for worker in others)
            raise ConfigError(
                f"{self.folder.parent} is being written by {places}: several processes can share a store, but not "
                "replace it (volume.overwrite) or write one file; wait for its end, or choose another output"
            )

    def clear(self, *, output: str | None = None) -> None:
        """Delete the notes of an earlier run whose output was removed; only files that a ledger writes are deleted.

        Args:
            output: identity of the present output; its notes, written by a part that started earlier, are kept.
        """
        # Listed before the run is read: a part writes its run first, so the files of a part of this output that
        # started earlier are never listed without its run being seen. The run is deleted last: after a kill, what
        # remains is still recognised as notes of another output.
        lines = [f"{kind}-*.jsonl" for kind in (COMMITS, LEVELS)]
        patterns = (*lines, "claims-*", "plan-*.json", "worker-*.json", FINISHED, STATISTICS, RUN)
        doomed = [path for pattern in patterns for path in self.folder.glob(pattern)]
        try:
            noted = read_json(self.folder / RUN).get(OUTPUT)
        except DataError:
            noted = None
        if output is not None and noted == output:
            return
        for path in doomed:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close this process's file, and leave: what it has claimed and not written is free."""
        for notes in (self._commits, self._levels):
            if notes is not None:
                notes.close()
        if self._workers is not None:
            self._workers.leave()


def _note_region(region: Box) -> dict[str, Any]:
    return {"region": [[axis.start, axis.stop] for axis in region]}
