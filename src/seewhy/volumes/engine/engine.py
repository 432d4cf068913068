"""Predict a volume in one pass: read ahead, predict, blend, write behind, and record progress."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from seewhy.errors import CheckpointError
from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.io.zarr.store import Counters
from seewhy.volumes.engine.bounded_queue import BoundedQueue, QueueEnd
from seewhy.volumes.engine.consumers import Blender, LogitConsumer, LogitKeeper
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.engine.stream import PatchStream, Work
from seewhy.volumes.engine.work import WorkQueue
from seewhy.volumes.engine.writer import Sink
from seewhy.volumes.geometry import BlendingWindow, voxels
from seewhy.volumes.memory import BATCHES_AHEAD, piece_rows
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan
from seewhy.volumes.statistics import measure
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["VERSION", "Progress", "VolumeEngine"]

VERSION = 1
"""Part of the fingerprint; increased with every change that changes output bytes."""


class Progress:
    """Progress of one process since its start, for a progress bar and the final report.

    Attributes:
        patches: to process, skipped ones included.
        voxels: to write.
        run: patches that were predicted.
        skipped: patches that counted as background.
        written: voxels that are written.
        elsewhere: voxels that other processes have written meanwhile.
        waited: seconds without work, at the end, while others completed theirs.
        helped: rows of shards that were computed although another process had claimed them, because it was slow.
        taken_over: rows of shards that were computed because a process was lost, by its name.
    """

    def __init__(self, *, counters: Counters) -> None:
        self.counters = counters
        self.patches, self.voxels, self.run, self.skipped, self.written = 0, 0, 0, 0, 0
        self.elsewhere, self.waited, self.helped = 0, 0.0, 0
        self.taken_over: dict[str, int] = {}
        self._began = time.monotonic()

    def begin(self, *, patches: int, voxels: int) -> None:
        """Start the clock."""
        self.patches, self.voxels = patches, voxels
        self._began = time.monotonic()

    @property
    def share(self) -> float:
        """Fraction of the patches that is done, here or elsewhere, in [0, 1]."""
        if not self.patches:
            return 1.0
        others = self.elsewhere / self.voxels if self.voxels else 0.0
        return min(1.0, (self.run + self.skipped) / self.patches + others)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def remaining(self) -> float | None:
        """Estimated seconds left; None before the first patch."""
        return self.seconds * (1 - self.share) / self.share if self.share else None

    def record(self) -> dict[str, Any]:
        """All numbers as plain data, with what was read."""
        return {
            "patches": self.patches,
            "run": self.run,
            "skipped": self.skipped,
            "voxels": self.written,
            "seconds": self.seconds,
            "voxels_per_second": self.written / self.seconds if self.seconds else 0.0,
            "waited": self.waited,
            "helped": self.helped,
            "taken_over": self.taken_over,
            **self.counters.record(),
        }


class VolumeEngine:
    """Predicts the tiles of a plan, alone or with other processes that share its ledger.

    Iterating yields batches ``{"image": [B, C, *patch] float32, "starts": first voxel of each patch, "work": …}``.
    Pass each batch with its logits to `accept`, in the same order, and call `close` at the end; `run` does all of
    this. With Lightning, the engine is the dataloader and `seewhy.callbacks.volumes.engine.VolumeWriter` calls
    `accept`.

    One thread reads and normalizes ahead of the network, another writes behind it. Each waits when the other side is
    slow, so memory stays within the plan. An error in either thread is raised by the next call.

    Args:
        source: the volume.
        sink: output with the format's dtype and shape and the plan's shards; or a `LogitStore`, which keeps the logits
            of every patch.
        window: weights of the patches, over the plan's grid.
        output_format: converts logits to stored numbers.
        normalize: normalizes patches.
        plan: tiles and units.
        ledger: progress notes, for resuming and for sharing the work; None keeps none on disk.
        settings: whatever else decides the output's bytes, for the fingerprint: hash of the weights, settings of the
            predictor.
        part: place among the expected processes at which this one prefers to start; may be set until iteration begins.
        skip_empty: skip patches that hold one value only; they count as background.
        device: where the network runs and, if they fit, logits are added.

    Attributes:
        progress: of this process.
        worker: number of this process among all that ever worked on the output, as in its notes.
        report_measured: called with the completed fraction of the statistics pre-pass; None to call nothing.
    """

    def __init__(
        self,
        *,
        source: VolumeSource,
        sink: Sink | LogitStore,
        window: BlendingWindow,
        output_format: OutputFormat,
        normalize: ChannelNormalization,
        plan: Plan,
        ledger: Ledger | None = None,
        settings: Mapping[str, Any] | None = None,
        part: int = 0,
        skip_empty: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source, self.sink, self.window, self.normalize = source, sink, window, normalize
        self.output_format, self.plan, self.part, self.skip_empty = output_format, plan, part, skip_empty
        self.ledger = Ledger() if ledger is None else ledger
        self.grid, self.device, self.settings = plan.costs.grid, torch.device(device), dict(settings or {})
        self.progress = Progress(counters=source.counters)
        self.report_measured: Callable[[float], None] | None = None
        self._pending: deque[Work] = deque()
        self._works: BoundedQueue[Work] = BoundedQueue(BATCHES_AHEAD)
        self._consumer: LogitConsumer | None = None
        self._reader: threading.Thread | None = None
        self._queue: WorkQueue | None = None
        self.worker = "0000"

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the output's bytes, as plain data; how the work is split is not part of it."""
        return {
            "engine": VERSION,
            "input": self.source.identity(),
            "patch": list(self.grid.patch),
            "overlap": self.grid.overlap,
            "window": self.window.settings,
            "head": self.output_format.settings(),
            "normalization": self.normalize.settings(),
            "skip_empty": self.skip_empty,
            "shard": list(self.plan.costs.shard),
            **self.settings,
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches of this process until everything is written, continuing where earlier ones stopped."""
        consumer = self._start()
        while True:
            consumer.check()
            try:
                work = self._works.get()
            except QueueEnd:
                return
            self._pending.append(work)
            self._drain()
            if work.image is not None:
                yield {"image": work.image, "starts": work.starts, "work": work}

    def accept(self, batch: Mapping[str, Any], logits: Tensor) -> None:
        """Blend the logits of one batch, in the order of iteration.

        Args:
            batch: from iteration.
            logits: [B, K, *patch], float32 or lower precision.

        Raises:
            CheckpointError: logits of another shape.
            DataError: the output cannot be written, or logits are not finite.
            RuntimeError: a batch out of order, or before iteration began.
        """
        expected = (batch["image"].shape[0], self.output_format.channels, *self.grid.patch)
        if tuple(logits.shape) != expected:
            raise CheckpointError(f"the network gave logits of {list(logits.shape)}, expected {list(expected)}")
        if self._consumer is None or not self._pending:
            raise RuntimeError("accept takes batches of the present iteration; iterate over the engine first")
        self._consumer.check()
        if self._pending[0] is not batch["work"]:
            raise RuntimeError("batches must be accepted in the order in which iteration gave them")
        self._execute(self._pending.popleft(), logits)
        self._drain()

    def run(
        self, predictor: Callable[[Tensor], Tensor], *, progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Predict until everything is written.

        Args:
            predictor: maps a batch [B, C, *patch] float32 to logits [B, K, *patch].
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
        """Wait until everything is written.

        Raises:
            DataError: the output cannot be written.
            RuntimeError: batches that were not accepted.
        """
        if self._pending:
            raise RuntimeError(f"{len(self._pending)} batches were not accepted; call abandon() to stop early")
        try:
            if self._consumer is not None:
                self._consumer.close()
        finally:
            self._release()

    def abandon(self) -> None:
        """Stop after an error; what the writer already received is still written and recorded."""
        self._pending.clear()
        try:
            if self._consumer is not None:
                self._consumer.close()
        except Exception:  # the first error counts, and that one is being raised
            pass
        finally:
            self._release()

    @property
    def complete(self) -> bool:
        """Whether the whole region is written."""
        return self.ledger.is_complete(self.plan)

    def finish(self) -> bool:
        """Finish the output (coarser levels, metadata) once everything is written, with all processes that call this.

        Returns:
            Whether the output is complete.
        """
        complete = self.ledger.finish(self.plan, self.sink)
        self.progress.waited += self.ledger.waited
        return complete

    def _start(self) -> LogitConsumer:
        queue = self.ledger.start(self.plan, self.part, fingerprint=self.fingerprint, output=self.sink)
        self._queue, self.plan, self.worker = queue, queue.plan, self.ledger.name
        if self.normalize.needs:
            self.normalize.bind(self.ledger.statistics(self._measure))
        patches, open_voxels = queue.count_open()
        self.progress.begin(patches=patches, voxels=open_voxels)
        self._consumer = self._make_consumer()
        stream = PatchStream(
            source=self.source,
            queue=queue,
            check=self._consumer.check,
            normalize=self.normalize,
            batch_size=self.plan.costs.batch_size,
            piece=piece_rows(self.grid, self.plan.costs.chunks),
            skip_empty=self.skip_empty,
            pinned=self.device.type == "cuda",
        )
        self._reader = threading.Thread(target=self._read_patches, args=(stream,), name="patches", daemon=True)
        self._reader.start()
        return self._consumer

    def _make_consumer(self) -> LogitConsumer:
        """Keep logits if the sink is a `LogitStore`, else blend them on the device.

        On a GPU the accumulator may take at most half of the free memory; a larger one stays on the CPU.
        """
        depth = self.plan.costs.shard[0]
        if isinstance(self.sink, LogitStore):
            return LogitKeeper(write=self.sink.write, depth=depth, on_written=self._on_written)
        device = self.device
        if device.type == "cuda" and self.plan.memory.accumulator > torch.cuda.mem_get_info(device)[0] // 2:
            device = torch.device("cpu")
        return Blender(
            grid=self.grid,
            window=self.window,
            output_format=self.output_format,
            depth=depth,
            device=device,
            sink=self.sink,
            on_written=self._on_written,
            is_written=self._is_written,
        )

    def _read_patches(self, stream: PatchStream) -> None:
        try:
            if self.device.type == "cuda" and self.device.index is not None:
                torch.cuda.set_device(self.device)  # threads start on GPU 0, and page-locked memory belongs to a device
            for work in stream:
                self._works.put(work)
        except QueueEnd:
            pass
        except BaseException as error:
            self._works.fail(error)
        else:
            self._works.end()

    def _execute(self, work: Work, logits: Tensor | None) -> None:
        if self._consumer is None:
            raise RuntimeError("the engine is closed")
        self._consumer.execute(work.commands, logits)
        self.progress.run, self.progress.skipped = self._consumer.run, self._consumer.skipped

    def _drain(self) -> None:
        """Execute work that needs no logits and does not wait for earlier work."""
        while self._pending and self._pending[0].image is None:
            self._execute(self._pending.popleft(), None)

    def _on_written(self, box: Box) -> None:
        assert self._queue is not None
        self._queue.commit(box)
        self.progress.written += voxels(box)
        self._publish()

    def _is_written(self, box: Box) -> bool:
        """Whether another process has written a box meanwhile.

        Raises:
            ConfigError: the output was replaced while this process was stopped.
        """
        self.ledger.check_member()
        return self._queue is not None and self._queue.is_written(box)

    def _publish(self) -> None:
        """Tell others this process's speed, and the progress bar what others have done."""
        assert self._queue is not None
        self.ledger.publish(self._queue.pace)
        self.progress.waited, self.progress.helped = self._queue.waited, self._queue.helped
        self.progress.taken_over = dict(self._queue.claims.taken_over)
        left = self._queue.count_open()[1]
        self.progress.elsewhere = max(0, self.progress.voxels - left - self.progress.written)

    def _measure(self) -> dict[str, Any]:
        return measure(
            self.source,
            nonzero=self.normalize.nonzero,
            percentiles=self.normalize.percentiles,
            progress=self.report_measured,
        )

    def _release(self) -> None:
        if self._queue is not None:
            self._queue.stopped.set()
            self._publish()
        self._works.end(drop=True)
        if self._reader is not None:
            self._reader.join()
        self.ledger.close()
        self._consumer = None
