"""Logits of every patch, kept on disk for those who need them before they are blended."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder
from seewhy.io.zarr.source import Box
from seewhy.volumes.engine.stream import Add, Begin, Command
from seewhy.volumes.geometry import PatchGrid

__all__ = ["LogitKeeper", "LogitStore"]

MARK, REVISION = "seewhy_logits", "revision"
THREADS = 4
Position = tuple[int, int, int]


class LogitStore:
    """A zarr array [nz, ny, nx, K, *patch] float16: the logits of the patch at each position of the grid.

    Every patch is one chunk, hence all parts of a run can share one store: no two write one object, but for patches
    at borders of tiles, which both tiles predict and write with the same bytes. Skipped patches have no chunk. It
    takes 2 K / (1 - overlap)³ bytes per voxel before compression, 16 K at an overlap of 0.5.

    Args:
        path: local folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._array: Any = None
        self._process = -1
        mark = self._opened().attrs.get(MARK)
        if not isinstance(mark, Mapping):
            raise ConfigError(f"{self.path} holds no logits of patches (volume.keep_logits=true makes them)")
        grid = mark["grid"]
        self.grid = PatchGrid(shape=grid["shape"], patch=grid["patch"], overlap=grid["overlap"])
        self.is_new = False
        """Whether `create` has just made it."""
        self.identity: str | None = mark.get("id")
        """Drawn when it was made: one made anew at the same path has another."""
        self.facts: dict[str, Any] = dict(mark["facts"])
        """Whatever was to be known when the result is made, as plain data."""

    @classmethod
    def create(cls, path: str | Path, *, grid: PatchGrid, channels: int, facts: Mapping[str, Any]) -> LogitStore:
        """Make a store, or open the one that is there for the same grid.

        Args:
            path: local folder.
            grid: positions over the whole volume.
            channels: K.
            facts: plain data to keep, e.g. spacing and settings of the head.

        Raises:
            ConfigError: when something else is there.
        """
        import zarr
        from zarr.codecs import BloscCodec

        mark = {
            "grid": {"shape": list(grid.shape), "patch": list(grid.patch), "overlap": grid.overlap},
            "facts": dict(facts),
            "id": uuid.uuid4().hex,
        }
        counts = [len(starts) for starts in grid.starts]
        if not Path(path).exists():
            # Another part may be faster; then the folder is there at the end, and theirs is as good.
            with _unless_there(Path(path)), atomic_folder(path) as temporary:
                zarr.create_array(
                    str(temporary),
                    shape=(*counts, channels, *grid.patch),
                    chunks=(1, 1, 1, channels, *grid.patch),
                    dtype="float16",
                    fill_value=np.nan,
                    compressors=BloscCodec(cname="zstd", clevel=1, typesize=2),
                    attributes={MARK: mark},
                )
        store = cls(path)
        store.is_new = store.identity == mark["id"]
        if (store.grid.shape, store.grid.patch, store.grid.overlap) != (grid.shape, grid.patch, grid.overlap):
            raise ConfigError(f"{path} holds logits of another grid; choose another path")
        return store

    @property
    def channels(self) -> int:
        """K."""
        return int(self._opened().shape[3])

    @property
    def bookkeeping(self) -> Path:
        """Folder for the ledger."""
        return Path(self.path) / ".seewhy"

    def write(self, position: Position, logits: NDArray[np.float16]) -> None:
        """Store one patch [K, *patch].

        Raises:
            DataError: when the store cannot be written.
        """
        try:
            self._opened()[position] = logits
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}); what is written is kept: "
                "mend it and start again to go on"
            ) from error

    def reopen(self) -> None:
        """Note that patches are missing: a larger region is to be predicted."""
        if self.finished:
            self._opened().attrs.update({"finished": False, REVISION: uuid.uuid4().hex})

    @property
    def contents(self) -> str | None:
        """Drawn anew whenever a finished one is added to: what was blended before is not of what it holds then."""
        contents: str | None = self._opened().attrs.get(REVISION, self.identity)
        return contents

    def finish(self) -> None:
        """Note that no patch is missing but the skipped ones."""
        self._opened().attrs["finished"] = True

    @property
    def finished(self) -> bool:
        """Whether all parts have stored all their patches."""
        self._array = None  # another process may have noted it meanwhile
        return bool(self._opened().attrs.get("finished", False))

    def read(self, position: Position) -> NDArray[np.float16] | None:
        """One patch [K, *patch], or None where it was skipped.

        Raises:
            DataError: it is damaged.
        """
        try:
            logits: NDArray[np.float16] = self._opened()[position]
        except Exception as error:  # codecs have their own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.path}: the logits of patch {position} cannot be read ({reason}); remove the store and predict "
                "anew"
            ) from error
        return None if np.isnan(logits.flat[0]) else logits

    def _opened(self) -> Any:
        if self._array is None or self._process != os.getpid():
            import zarr

            try:
                self._array = zarr.open_array(self.path, mode="r+")
            except (FileNotFoundError, ValueError, KeyError) as error:
                raise ConfigError(f"{self.path} holds no logits of patches: {error}") from error
            self._process = os.getpid()
        return self._array


@contextmanager
def _unless_there(path: Path) -> Iterator[None]:
    """Pass on what fails, unless a folder is there in the end."""
    try:
        yield
    except OSError as error:
        if not path.is_dir():
            raise DataError(f"{path} cannot be made ({error.strerror or error}); choose another path") from error


class LogitKeeper:
    """Stores the logits of a stream's patches instead of blending them.

    Args:
        store: shared by all parts.
        depth: rows of an output shard, after which progress is noted.
        written: called with each box whose patches are stored.
    """

    def __init__(self, *, store: LogitStore, depth: int, written: Callable[[Box], None]) -> None:
        self.store, self.depth, self._written = store, depth, written
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="write-behind")
        self._waiting: list[Future[None]] = []
        self._core: Box | None = None
        self._row = 0
        self.run, self.skipped = 0, 0

    def execute(self, commands: Sequence[Command], logits: Tensor | None) -> None:
        """Carry out instructions in order.

        Args:
            commands: of a stream.
            logits: [B, K, P, P, P], the batch they speak of.

        Raises:
            DataError: when the store fails, or logits do not fit into float16.
        """
        for command in commands:
            if isinstance(command, Begin):
                self._core, self._row = command.unit.core, command.row
            elif isinstance(command, Add):
                self._add(command, logits)
            else:
                self._advance(command.row)

    def check(self) -> None:
        """Raise what a write failed with, if one did."""
        done = [future for future in self._waiting if future.done()]
        self._waiting = [future for future in self._waiting if not future.done()]
        for future in done:
            future.result()

    def close(self) -> None:
        """Wait until everything is stored."""
        try:
            self._wait()
        finally:
            self._pool.shutdown()

    def _add(self, patch: Add, logits: Tensor | None) -> None:
        if patch.slot is None:
            self.skipped += 1
            return
        assert logits is not None
        half = logits[patch.slot].half().cpu().numpy()
        if not np.isfinite(half).all():
            raise DataError("logits do not fit into float16, or are not finite; predict without keep_logits")
        self.run += 1
        while len(self._waiting) >= 2 * THREADS:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self.store.write, patch.position, half))

    def _advance(self, row: int) -> None:
        """Note whole shards all of whose patches are stored."""
        assert self._core is not None
        stop = self._core[0].stop if row >= self._core[0].stop else row // self.depth * self.depth
        if stop > self._row:
            self._wait()
            self._written((slice(self._row, stop), *self._core[1:]))
            self._row = stop

    def _wait(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.result()
