"""What a run has written, and with which settings: the notes from which it goes on after a kill."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.io.volume_base import Box
from seewhy.volumes.box import box_of
from seewhy.volumes.locks import locked, try_lock

__all__ = ["OUTPUT", "Ledger"]

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
