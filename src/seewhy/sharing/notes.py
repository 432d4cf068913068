"""Notes in a shared folder: lines that every process appends to its own file, and settings that all agree on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from seewhy.io.checks.sizes import check_regular_file
from seewhy.options import flatten_options

__all__ = ["Notes", "list_differences"]


class Notes:
    """Lines of JSON in the files `<kind>-<process>.jsonl` of a folder.

    Every process appends to its own file and syncs each line; no file has two writers. An incomplete last line, which
    a killed process leaves, is ignored.

    Args:
        folder: shared by all processes.
        kind: of the notes.

    Example:
        >>> from pathlib import Path
        >>> from seewhy.sharing.notes import Notes
        >>> with Notes(Path("."), "done") as notes:
        ...     notes.open("0003")
        ...     notes.append({"case": 17})
        >>> [line for line, where in Notes(Path("."), "done").read_new_lines()]
        [b'{"case": 17}']
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self._file: IO[bytes] | None = None
        self._offsets: dict[Path, int] = {}
        self._reading = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether this process may append."""
        return self._file is not None

    def open(self, name: str) -> None:
        """Open the file of this process.

        Args:
            name: of this process among all that ever shared the folder.
        """
        self._file = (self.folder / f"{self.kind}-{name}.jsonl").open("ab")

    def append(self, content: Any) -> None:
        """Append plain data as one line; returns once it is on disk.

        Raises:
            ValueError: the file of this process is not open.
        """
        if self._file is None:
            raise ValueError(f"call open before appending to the notes {self.kind}")
        self._file.write(json.dumps(content).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def read_new_lines(self) -> Iterator[tuple[bytes, str]]:
        """Read the lines of all processes since the last call.

        Yields:
            Each line, and where it is, for messages.
        """
        with self._reading:
            for path in sorted(self.folder.glob(f"{self.kind}-*.jsonl")):
                check_regular_file(path)
                begun = self._offsets.get(path, 0)
                if path.stat().st_size <= begun:
                    continue
                with path.open("rb") as file:
                    file.seek(begun)
                    content = file.read()
                content = content[: content.rfind(b"\n") + 1]
                self._offsets[path] = begun + len(content)
                for number, line in enumerate(content.split(b"\n")[:-1], start=1):
                    yield line, f"{path}, line {number}" if not begun else f"{path}, line {number} after byte {begun}"

    def close(self) -> None:
        """Close the file of this process."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def list_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """List the settings in which two processes differ, by their dotted names, with both values.

    Args:
        theirs: plain data, may be nested.
        ours: likewise.

    Example:
        >>> from seewhy.sharing.notes import list_differences
        >>> list_differences({"grid": {"overlap": 0.5}, "tta": True}, {"grid": {"overlap": 0.25}})
        ['grid.overlap: 0.5 → 0.25', 'tta: True → (none)']
    """
    before, now = flatten_options(theirs), flatten_options(json.loads(json.dumps(ours)))
    missing = "(none)"
    return [
        f"{key}: {before.get(key, missing)} → {now.get(key, missing)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing)
    ]
