"""Store the logits of every patch, and make a result of them later: blend, then finalize."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import atomic_folder
from seewhy.io.zarr.source import VolumeSource
from seewhy.volumes.engine.consumers import Blender
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.engine.stream import Add, Advance, Begin, Position
from seewhy.volumes.engine.work import Span
from seewhy.volumes.engine.writer import Sink
from seewhy.volumes.geometry import BlendingWindow, PatchGrid, split
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, Step
from seewhy_run.arrays.windows import SIGMA_SCALE

__all__ = ["LogitStore", "blend", "finalize"]

MARK, REVISION = "seewhy_logits", "revision"
READS_AHEAD = 8


class LogitStore:
    """A zarr array [nz, ny, nx, K, *patch] float16: the logits of the patch at each position of the grid.

    Every patch is one chunk, so all parts of a run can share one store: two parts never write the same object, except
    for patches at borders of tiles, which both tiles predict and write with the same bytes. Skipped patches have no
    chunk. The store takes 2 K / (1 - overlap)³ bytes per voxel before compression, 16 K at an overlap of 0.5.

    Args:
        path: local folder.

    Attributes:
        grid: positions over the whole volume.
        is_new: whether `create` has just made the store.
        identity: drawn when the store was made; a new store at the same path has another one.
        facts: plain data that is needed to make a result.

    Raises:
        ConfigError: the path holds no logits.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._array: Any = None
        self._process = -1
        mark = self._open().attrs.get(MARK)
        if not isinstance(mark, Mapping):
            raise ConfigError(f"{self.path} holds no logits of patches (volume.job.keep_logits=true writes them)")
        self.is_new = False
        self.identity: str | None = mark.get("id")
        try:
            grid = mark["grid"]
            self.grid = PatchGrid(shape=grid["shape"], patch=grid["patch"], overlap=grid["overlap"])
            self.facts: dict[str, Any] = dict(mark["facts"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{self.path}: its description of the patches is damaged ({error!r})") from error

    @classmethod
    def create(cls, path: str | Path, *, grid: PatchGrid, channels: int, facts: Mapping[str, Any]) -> LogitStore:
        """Create a store, or open an existing one for the same grid.

        Args:
            path: local folder.
            grid: positions over the whole volume.
            channels: K.
            facts: plain data to keep, e.g. spacing and settings of the output format.

        Raises:
            ConfigError: the path holds something else.
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
            # Another part may create the folder first; its store is equivalent.
            with _accept_existing(Path(path)), atomic_folder(path) as temporary:
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
        return int(self._open().shape[3])

    @property
    def bookkeeping(self) -> Path:
        """Folder for the ledger."""
        return Path(self.path) / ".seewhy"

    def write(self, position: Position, logits: NDArray[np.float16]) -> None:
        """Store one patch [K, *patch].

        Raises:
            DataError: the store cannot be written.
        """
        try:
            self._open()[position] = logits
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}); what was written is kept: "
                "fix the cause and start again to continue"
            ) from error

    def reopen(self) -> None:
        """Mark a finished store as incomplete, because a larger region will be predicted."""
        if self.finished:
            self._open().attrs.update({"finished": False, REVISION: uuid.uuid4().hex})

    @property
    def contents(self) -> str | None:
        """Identity of the contents; changes when patches are added to a finished store, which outdates its blends."""
        contents: str | None = self._open().attrs.get(REVISION, self.identity)
        return contents

    levels = 0

    def build_part(self, level: int, index: tuple[int, int, int]) -> None:
        """Do nothing: logits of patches have no coarser levels."""

    def seal(self) -> None:
        """Mark the store as complete: only skipped patches are missing."""
        self._open().attrs["finished"] = True

    @property
    def finished(self) -> bool:
        """Whether all parts have stored all their patches."""
        self._array = None  # another process may have changed it
        return bool(self._open().attrs.get("finished", False))

    def read_patch(self, position: Position) -> NDArray[np.float16] | None:
        """Read one patch [K, *patch], or None if it was skipped.

        Raises:
            DataError: the patch is damaged.
        """
        try:
            logits: NDArray[np.float16] = self._open()[position]
        except Exception as error:  # every codec has its own errors
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.path}: the logits of patch {position} cannot be read ({reason}); remove the store and predict "
                "again"
            ) from error
        return None if np.isnan(logits.flat[0]) else logits

    def _open(self) -> Any:
        """The array, opened once per process."""
        if self._array is None or self._process != os.getpid():
            import zarr

            if not Path(self.path).is_dir():  # zarr would create the folder
                raise ConfigError(f"{self.path} holds no logits of patches: it is not a folder")
            try:
                self._array = zarr.open_array(self.path, mode="r+")
            except Exception as error:  # JSON, codecs and stores have their own errors
                raise ConfigError(f"{self.path} holds no logits of patches: {error}") from error
            self._process = os.getpid()
        return self._array


@contextmanager
def _accept_existing(path: Path) -> Iterator[None]:
    """Ignore a failure to create a folder if the folder exists afterwards."""
    try:
        yield
    except OSError as error:
        if not path.is_dir():
            raise DataError(f"{path} cannot be created ({error.strerror or error}); choose another path") from error


def blend(
    store: LogitStore,
    *,
    sink: Sink,
    output_format: OutputFormat,
    plan: Plan,
    window: str = "gaussian",
    sigma_scale: float = SIGMA_SCALE,
    ledger: Ledger | None = None,
    part: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Blend the stored logits of all patches; missing patches count as background.

    Args:
        store: written by a run with `keep_logits`.
        sink: output with the format's dtype and shape and the plan's shards.
        output_format: ``stored="logits"`` keeps blended logits for `finalize`; any other makes the result at once.
        plan: tiles and units, over the store's grid.
        window: profile of the weights.
        sigma_scale: see `BlendingWindow`.
        ledger: notes of this step, not those of the prediction.
        part: place among the expected processes at which this one prefers to start.
        progress: called with the number of blended patches and of all patches.

    Returns:
        Whether the output is complete; the sink has then been finished.

    Raises:
        ConfigError: another number of channels, or the store is not complete.
    """
    if output_format.channels != store.channels:
        raise ConfigError(
            f"{store.path} holds {store.channels} channels of logits, the output format takes {output_format.channels}"
        )
    if not store.finished:
        raise ConfigError(f"{store.path} is not complete; start the same prediction again to complete it")
    ledger = Ledger() if ledger is None else ledger
    # The store's identity covers its grid and everything that its logits were made with.
    blending = BlendingWindow(store.grid, kind=window, sigma_scale=sigma_scale)
    settings = {
        "step": "blend", "logits": store.facts, "of": store.contents, "window": blending.settings,
        "head": output_format.settings(), "shard": list(plan.costs.shard),
    }  # fmt: skip
    queue = ledger.start(plan, part, fingerprint=lambda: settings, output=sink)
    blender = Blender(
        grid=store.grid,
        window=blending,
        output_format=output_format,
        depth=plan.costs.shard[0],
        device=torch.device("cpu"),
        sink=sink,
        on_written=queue.commit,
        is_written=queue.is_written,
    )
    total = queue.count_open()[0]
    try:
        with ThreadPoolExecutor(2, thread_name_prefix="read-ahead") as readers:
            for span in queue.spans(check=blender.check):
                _blend_span(span, store, blender, readers, lambda: progress and progress(blender.run, total))
    finally:
        blender.close()
        ledger.close()
    return ledger.finish(queue.plan, sink)


def finalize(
    blended: VolumeSource,
    *,
    sink: Sink,
    output_format: OutputFormat,
    plan: Plan,
    ledger: Ledger | None = None,
    part: int = 0,
) -> bool:
    """Convert blended logits to a result, shard by shard.

    Args:
        blended: [K, Z, Y, X] float16 logits.
        sink: output with the format's dtype and shape and the plan's shards.
        output_format: of the result.
        plan: tiles and units.
        ledger: notes of this step.
        part: place among the expected processes at which this one prefers to start.

    Returns:
        Whether the output is complete; the sink has then been finished.

    Raises:
        ConfigError: another number of channels.
    """
    if output_format.channels != blended.shape[0]:
        raise ConfigError(
            f"{blended.path} has {blended.shape[0]} channels, the output format takes {output_format.channels}"
        )
    ledger = Ledger() if ledger is None else ledger
    settings = {"step": "finalize", "head": output_format.settings(), "shard": list(plan.costs.shard)}
    queue = ledger.start(plan, part, fingerprint=lambda: {**settings, "input": blended.identity()}, output=sink)
    try:
        for span in queue.spans():
            for slab in span.slabs():
                for box in split(slab, plan.costs.shard):
                    logits = torch.from_numpy(blended.read(box).astype(np.float32))
                    values: NDArray[Any] = output_format(logits).numpy()
                    sink.write(box, values if values.dtype == output_format.dtype else values.view(output_format.dtype))
                queue.commit(slab)
    finally:
        ledger.close()
    return ledger.finish(queue.plan, sink)


def _blend_span(
    span: Span, store: LogitStore, blender: Blender, readers: ThreadPoolExecutor, progress: Callable[[], Any]
) -> None:
    """Blend the units of one walk; patches are read ahead and added in order."""
    blender.execute([Begin(span.tile, span.row)], None)
    for step in span.steps():
        for position, logits in _read_ahead(step, store, readers):
            values = None if logits is None else torch.from_numpy(logits)[None]
            blender.execute([Add(position, None if values is None else 0)], values)
        blender.execute([Advance(step.final)], None)
        progress()


def _read_ahead(
    step: Step, store: LogitStore, readers: ThreadPoolExecutor
) -> Iterator[tuple[Position, NDArray[np.float16] | None]]:
    waiting: deque[tuple[Position, Future[NDArray[np.float16] | None]]] = deque()
    for y in step.ys:
        for x in step.xs:
            position = (step.z, y, x)
            waiting.append((position, readers.submit(store.read_patch, position)))
            if len(waiting) > READS_AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
    for first, future in waiting:
        yield first, future.result()
