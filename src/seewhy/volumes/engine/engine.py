"""One pass over a volume: read ahead, predict, blend, write behind, and note what is done."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from seewhy.errors import CheckpointError
from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.volumes.engine.bounded_queue import BoundedQueue, QueueEnd
from seewhy.volumes.engine.ledger import Ledger, Notes
from seewhy.volumes.engine.logit_consumer import LogitConsumer, make_consumer
from seewhy.volumes.engine.progress import Progress
from seewhy.volumes.engine.stream import PatchStream, Work
from seewhy.volumes.engine.writer import Sink
from seewhy.volumes.geometry import BlendingWindow, voxels
from seewhy.volumes.memory import BATCHES_AHEAD, piece_rows
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan
from seewhy.volumes.statistics import measure
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["VERSION", "VolumeEngine"]

VERSION = 1
"""Goes up with every change that changes output bytes; part of the fingerprint."""


class VolumeEngine:
    """Predicts the tiles of one part of a plan.

    Iterate over it for batches ``{"image": [B, C, *patch] float32, "starts": first voxel of each patch, "work": …}``
    and give each back with its logits to `accept`, in the same order; then `close`. `run` does all of it. Under
    Lightning the engine is the dataloader and `seewhy.callbacks.volumes.engine_hook.VolumeWriter` accepts.

    Reading and normalising run in a thread ahead of the network, storing in a thread behind it; both wait when the
    other side is slow, so that memory stays at what the plan says. An error of either is raised by the next call.

    Args:
        source: the volume.
        sink: the output, of the head's type and shape and the plan's shards; or a `LogitStore`, to keep the logits
            of every patch instead.
        window: weights of the patches, over the plan's grid.
        head: from logits to stored numbers.
        normalize: of patches.
        plan: tiles and owners.
        ledger: notes to go on from; None keeps none.
        settings: whatever else decides the output's bytes, for the fingerprint: hash of the weights, settings of the
            predictor.
        part: which part of the plan this process computes; may be set until iteration begins.
        skip_empty: leave out patches that hold one value only; they count as background.
        device: where the network runs and, while they fit, logits are added.

    Attributes:
        measured: called with the share of the statistics pre-pass that is done; None, or whoever shows it.
    """

    def __init__(
        self,
        *,
        source: VolumeSource,
        sink: Sink | LogitStore,
        window: BlendingWindow,
        head: OutputFormat,
        normalize: ChannelNormalization,
        plan: Plan,
        ledger: Ledger | None = None,
        settings: Mapping[str, Any] | None = None,
        part: int = 0,
        skip_empty: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source, self.sink, self.window, self.head, self.normalize = source, sink, window, head, normalize
        self.plan, self.ledger, self.part, self.skip_empty = plan, ledger, part, skip_empty
        self.notes = Notes(plan, ledger)
        self.grid, self.device, self.settings = plan.costs.grid, torch.device(device), dict(settings or {})
        self.progress = Progress(counters=source.counters)
        self.measured: Callable[[float], None] | None = None
        self._pending: deque[Work] = deque()
        self._works: BoundedQueue[Work] = BoundedQueue(BATCHES_AHEAD)
        self._taker: LogitConsumer | None = None
        self._reader: threading.Thread | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the output's bytes, as plain data; not how the work is split."""
        return {
            "engine": VERSION,
            "input": self.source.identity(),
            "patch": list(self.grid.patch),
            "overlap": self.grid.overlap,
            "window": self.window.kind,
            "head": self.head.settings(),
            "normalization": self.normalize.settings(),
            "skip_empty": self.skip_empty,
            "shard": list(self.plan.costs.shard),
            **self.settings,
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches of this part, from where an earlier run stopped."""
        self._start()
        while True:
            if self._taker is not None:
                self._taker.check()
            try:
                work = self._works.get()
            except QueueEnd:
                return
            self._pending.append(work)
            self._drain()
            if work.image is not None:
                yield {"image": work.image, "starts": work.starts, "work": work}

    def accept(self, batch: Mapping[str, Any], logits: Tensor) -> None:
        """Blend one batch's logits, in the order of iteration.

        Args:
            batch: as iteration gave it.
            logits: [B, K, *patch], float32 or less.

        Raises:
            CheckpointError: when their number of channels is not the head's.
            DataError: when the store fails, or logits are not finite.
        """
        expected = (batch["image"].shape[0], self.head.channels, *self.grid.patch)
        if tuple(logits.shape) != expected:
            raise CheckpointError(f"the network gave logits of {list(logits.shape)}, expected {list(expected)}")
        assert self._taker is not None
        self._taker.check()
        work = self._pending.popleft()
        assert work is batch["work"], "batches must be accepted in the order they came"
        self._execute(work, logits)
        self._drain()

    def run(
        self, predictor: Callable[[Tensor], Tensor], *, progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Predict this part's tiles.

        Args:
            predictor: from a batch [B, C, *patch] float32 to logits [B, K, *patch].
            progress: called after every batch.
        """
        try:
            for batch in self:
                self.accept(batch, predictor(batch["image"]))
                if progress is not None:
                    progress(self.progress)
        except BaseException:
            self.abandon()
            raise
        self.close()
        return self.progress

    def close(self) -> None:
        """Wait until everything is stored.

        Raises:
            DataError: when the store fails.
        """
        assert not self._pending, "some batches were not accepted"
        try:
            if self._taker is not None:
                self._taker.close()
        finally:
            self._release()

    def abandon(self) -> None:
        """Stop after an error; what has been handed to the writer is still stored and noted."""
        self._pending.clear()
        try:
            if self._taker is not None:
                self._taker.close()
        except Exception:  # the first error counts, and that one is being raised
            pass
        finally:
            self._release()

    @property
    def complete(self) -> bool:
        """Whether all parts have stored all of the region."""
        return self.notes.complete

    def finish(self) -> bool:
        """Let the sink finish (coarser levels, metadata) once all parts are done; any of them may try.

        Returns:
            Whether the output is complete.
        """
        return self.notes.finish(self.sink)

    def _start(self) -> None:
        tiles = self.notes.start(self.fingerprint, self.part, sink=self.sink)
        if self.normalize.needs:
            self.normalize.bind(self._statistics())
        self.progress.begin(
            patches=sum(step.patches for unit, row in tiles for step in unit.steps(row)),
            voxels=sum((unit.core[0].stop - row) * voxels((slice(0, 1), *unit.core[1:])) for unit, row in tiles),
        )
        self._taker = make_consumer(
            self.plan, sink=self.sink, window=self.window, device=self.device, written=self._written
        )
        stream = PatchStream(
            source=self.source,
            tiles=tiles,
            normalize=self.normalize,
            batch_size=self.plan.costs.batch_size,
            piece=piece_rows(self.grid, self.plan.costs.chunks),
            skip_empty=self.skip_empty,
            pinned=self.device.type == "cuda",
        )
        self._reader = threading.Thread(target=self._read, args=(stream,), name="patches", daemon=True)
        self._reader.start()

    def _read(self, stream: PatchStream) -> None:
        try:
            if self.device.type == "cuda" and self.device.index is not None:
                torch.cuda.set_device(self.device)  # a thread begins on GPU 0, and page-locked memory belongs to one
            for work in stream:
                self._works.put(work)
        except QueueEnd:
            pass
        except BaseException as error:
            self._works.fail(error)
        else:
            self._works.end()

    def _execute(self, work: Work, logits: Tensor | None) -> None:
        assert self._taker is not None
        self._taker.execute(work.commands, logits)
        self.progress.update(run=self._taker.run, skipped=self._taker.skipped)

    def _drain(self) -> None:
        """Carry out what needs no logits and has nothing before it that does."""
        while self._pending and self._pending[0].image is None:
            self._execute(self._pending.popleft(), None)

    def _written(self, box: Box) -> None:
        self.notes.commit(box)
        self.progress.written += voxels(box)

    def _statistics(self) -> dict[str, Any]:
        def found() -> dict[str, Any]:
            return measure(
                self.source,
                nonzero=self.normalize.nonzero,
                percentiles=self.normalize.percentiles,
                progress=self.measured,
            )

        return found() if self.ledger is None else self.ledger.statistics(found)

    def _release(self) -> None:
        self._works.end(drop=True)
        if self._reader is not None:
            self._reader.join()
        self.notes.close()
        self._taker = None
