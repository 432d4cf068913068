"""The separate steps after `keep_logits`: blend stored logits, and turn blended logits into a result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.errors import ConfigError
from seewhy.io.zarr.source import VolumeSource
from seewhy.volumes.engine.blender import Blender
from seewhy.volumes.engine.ledger import Ledger, Notes
from seewhy.volumes.engine.stream import Add, Advance, Begin
from seewhy.volumes.engine.writer import Sink
from seewhy.volumes.geometry import BlendingWindow, split
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, Unit
from seewhy.volumes.stored_logits import LogitStore, Position

__all__ = ["blend", "finalize"]

READS_AHEAD = 8


def blend(
    store: LogitStore,
    *,
    sink: Sink,
    head: OutputFormat,
    plan: Plan,
    window: str = "gaussian",
    ledger: Ledger | None = None,
    part: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Blend the stored logits of all patches; patches that are missing count as background.

    Args:
        store: made by a run with `keep_logits`.
        sink: the output, of the head's type and shape and the plan's shards.
        head: ``stored="logits"`` keeps blended logits for `finalize`; any other makes the result at once.
        plan: tiles and owners, over the store's grid.
        window: profile of the weights.
        ledger: notes of this step, not those of the prediction.
        part: of the plan.
        progress: called with the patches that are done and their number.

    Returns:
        Whether the output is complete; the sink has then finished.
    """
    if head.channels != store.channels:
        raise ConfigError(f"{store.path} holds {store.channels} channels of logits, the head takes {head.channels}")
    if not store.finished:
        raise ConfigError(f"{store.path} is not complete; start the parts that have not ended again")
    notes = Notes(plan, ledger)
    # The store's identity stands for its grid and whatever its logits were made with.
    settings = {"step": "blend", "logits": store.facts, "of": store.contents, "window": window, "head": head.settings()}
    tiles = notes.start(lambda: settings | {"shard": list(plan.costs.shard)}, part, sink=sink)
    blender = Blender(
        grid=store.grid,
        window=BlendingWindow(store.grid, kind=window),
        head=head,
        depth=plan.costs.shard[0],
        device=torch.device("cpu"),
        sink=sink,
        written=notes.commit,
    )
    total = sum(step.patches for unit, row in tiles for step in unit.steps(row))
    try:
        with ThreadPoolExecutor(2, thread_name_prefix="read-ahead") as readers:
            for unit, row in tiles:
                _walk(unit, row, store, blender, readers, lambda: progress and progress(blender.run, total))
    finally:
        blender.close()
        notes.close()
    return notes.finish(sink)


def finalize(
    blended: VolumeSource, *, sink: Sink, head: OutputFormat, plan: Plan, ledger: Ledger | None = None, part: int = 0
) -> bool:
    """Turn blended logits into a result, shard by shard.

    Args:
        blended: [K, Z, Y, X] float16 logits.
        sink: the output, of the head's type and shape and the plan's shards.
        head: what to make of them.
        plan: which shards there are and who owns them.
        ledger: notes of this step.
        part: of the plan.

    Returns:
        Whether the output is complete; the sink has then finished.
    """
    if head.channels != blended.shape[0]:
        raise ConfigError(f"{blended.path} has {blended.shape[0]} channels, the head takes {head.channels}")
    notes = Notes(plan, ledger)
    settings: Mapping[str, Any] = {"step": "finalize", "head": head.settings(), "shard": list(plan.costs.shard)}
    tiles = notes.start(lambda: {**settings, "input": blended.identity()}, part, sink=sink)
    try:
        for unit, row in tiles:
            rows = (slice(row, unit.core[0].stop), *unit.core[1:])
            for slab in split(rows, (plan.costs.shard[0], *plan.costs.grid.shape[1:])):
                for box in split(slab, plan.costs.shard):
                    logits = torch.from_numpy(blended.read(box).astype(np.float32))
                    values: NDArray[Any] = head(logits).numpy()
                    sink.write(box, values if values.dtype == head.dtype else values.view(head.dtype))
                notes.commit(slab)
    finally:
        notes.close()
    return notes.finish(sink)


def _walk(
    unit: Unit,
    row: int,
    store: LogitStore,
    blender: Blender,
    readers: ThreadPoolExecutor,
    progress: Callable[[], Any],
) -> None:
    """Blend one tile; patches are read ahead and added in order."""
    blender.execute([Begin(unit, row)], None)
    reads = _read_ahead(unit, row, store, readers)
    for step in unit.steps(row):
        for _ in range(step.patches):
            position, logits = next(reads)
            values = None if logits is None else torch.from_numpy(logits)[None]
            blender.execute([Add(position, None if values is None else 0)], values)
        blender.execute([Advance(step.final)], None)
        progress()


def _read_ahead(
    unit: Unit, row: int, store: LogitStore, readers: ThreadPoolExecutor
) -> Iterator[tuple[Position, NDArray[np.float16] | None]]:
    waiting: deque[tuple[Position, Future[NDArray[np.float16] | None]]] = deque()
    for step in unit.steps(row):
        for y in step.ys:
            for x in step.xs:
                position = (step.z, y, x)
                waiting.append((position, readers.submit(store.read, position)))
                if len(waiting) > READS_AHEAD:
                    place, future = waiting.popleft()
                    yield place, future.result()
    for place, future in waiting:
        yield place, future.result()
