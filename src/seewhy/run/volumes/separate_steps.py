"""Steps after a prediction with `volume.job.keep_logits=true`: blend the patches' logits, then finalize a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from seewhy.errors import ConfigError
from seewhy.io.zarr.existing import remove
from seewhy.io.zarr.layout import positive_triple
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import VolumeSink, open_sink
from seewhy.option_types import parse_bytes
from seewhy.run.volumes.output import make_sink
from seewhy.run.volumes.output_file import OutputFile, choose_output
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, make_plan
from seewhy.volumes.stored_logits import LogitStore, blend, finalize
from seewhy_run.arrays.windows import SIGMA_SCALE

__all__ = ["blend_logits", "finalize_logits"]


def blend_logits(
    logits: str,
    output: str,
    *,
    window: str = "gaussian",
    sigma_scale: float = SIGMA_SCALE,
    chunk: Sequence[int] | None = None,
    delete_input: bool = False,
    output_format: Mapping[str, Any] | None = None,
    memory_budget: str = "4GB",
    part: int = 0,
    parts: int = 1,
) -> bool:
    """Blend the logits that `volume.job.keep_logits=true` has stored.

    Args:
        logits: output of that prediction.
        output: zarr store to write.
        window: weights of a patch's voxels: gaussian, nnunet, hann or constant.
        sigma_scale: of gaussian and nnunet, see `seewhy.volumes.geometry.BlendingWindow`.
        chunk: voxels of a chunk of the output along Z, Y and X; None is as in the prediction.
        delete_input: delete the stored logits once the output is complete.
        output_format: changes of the stored result (`mode`, `stored`, `threshold`); None keeps blended logits.
        memory_budget: bytes of this process.
        part: place among the expected processes at which this one starts.
        parts: processes that are expected to share the work.

    Returns:
        Whether the output is complete.
    """
    store = LogitStore(logits)
    chosen = _change_format(store.facts["head"], {"stored": "logits"} if output_format is None else output_format)
    target = choose_output(output, option="OUTPUT")
    facts = _change_chunk(store.facts, chunk)
    plan = _make_plan(store.grid, chosen, facts["shard"], memory_budget, parts)
    target.check(chosen, store.grid.shape, memory_budget=parse_bytes(memory_budget), parts=parts)
    grid = {"shape": list(store.grid.shape), "patch": list(store.grid.patch), "overlap": store.grid.overlap}
    sink = _create_sink(target.store, chosen, plan, {**facts, "grid": grid})
    with Progress(transient=True) as bar:
        task = bar.add_task("blending", total=None)
        complete = blend(
            store,
            sink=sink,
            output_format=chosen,
            plan=plan,
            window=window,
            sigma_scale=sigma_scale,
            ledger=_open_ledger(sink),
            part=part,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    _print_result(sink, target, chosen, complete)
    _delete_input(logits, delete_input and complete)
    return complete


def finalize_logits(
    blended: str,
    output: str,
    *,
    chunk: Sequence[int] | None = None,
    delete_input: bool = False,
    output_format: Mapping[str, Any] | None = None,
    memory_budget: str = "4GB",
    part: int = 0,
    parts: int = 1,
) -> bool:
    """Make a result of blended logits.

    Args:
        blended: output of `blend_logits`.
        output: zarr store to write.
        chunk: see `blend_logits`.
        delete_input: delete the blended logits once the output is complete.
        output_format: changes of the stored result (`mode`, `stored`, `threshold`).
        memory_budget: bytes of this process.
        part: place among the expected processes at which this one starts.
        parts: processes that are expected to share the work.

    Returns:
        Whether the output is complete.

    Raises:
        ConfigError: `blended` holds no blended logits, or is not complete.
    """
    store = open_sink(blended)
    kept = store.attributes.get("facts")
    if not isinstance(kept, Mapping) or store.attributes.get("stored") != "logits":
        raise ConfigError(f"{blended} holds no blended logits; create them with `python -m seewhy blend`")
    if not store.finished:
        raise ConfigError(f"{blended} is not complete; start the same blend again to complete it")
    facts = _change_chunk(kept, chunk)
    chosen = _change_format(facts["head"], output_format or {})
    target = choose_output(output, option="OUTPUT")
    grid = PatchGrid(**facts["grid"])
    target.check(chosen, grid.shape, memory_budget=parse_bytes(memory_budget), parts=parts)
    plan = _make_plan(grid, chosen, facts["shard"], memory_budget, parts)
    sink = _create_sink(target.store, chosen, plan, facts)
    source = open_source(store.image, level=0)
    complete = finalize(source, sink=sink, output_format=chosen, plan=plan, ledger=_open_ledger(sink), part=part)
    _print_result(sink, target, chosen, complete)
    _delete_input(blended, delete_input and complete)
    return complete


def _change_chunk(facts: Mapping[str, Any], chunk: Sequence[int] | None) -> Mapping[str, Any]:
    """The facts of an output with another chunk, and shards that are multiples of it."""
    if chunk is None:
        return facts
    sizes = positive_triple(list(chunk), "--chunk")
    shard = [max(1, round(old / size)) * size for old, size in zip(facts["shard"], sizes, strict=True)]
    return {**facts, "chunk": list(sizes), "shard": shard}


def _delete_input(path: str, deleted: bool) -> None:
    """Delete what a finished step has read."""
    if deleted:
        remove(path, None)
        Console(highlight=False).print(f"deleted: {path}")


def _change_format(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> OutputFormat:
    """The output format of the prediction with changes; None means no change."""
    changed = {key: value for key, value in changes.items() if value is not None}
    order = settings.get("class_order") if changed.get("mode", settings["mode"]) == "regions" else None
    return OutputFormat(**{**settings, **changed, "class_order": order})


def _make_plan(grid: PatchGrid, output_format: OutputFormat, shard: list[int], memory_budget: str, parts: int) -> Plan:
    costs = Costs(
        grid=grid,
        output_format=output_format,
        channels=output_format.channels,
        itemsize=np.dtype(np.float16).itemsize,
        chunks=grid.patch,
        shard=(shard[0], shard[1], shard[2]),
        batch_size=1,
    )
    return make_plan(costs, memory_budget=parse_bytes(memory_budget), parts=parts)


def _create_sink(output: str, output_format: OutputFormat, plan: Plan, facts: Mapping[str, Any]) -> VolumeSink:
    """Create the output; blended logits keep the facts that `finalize` needs."""
    description = {key: value for key, value in facts.items() if key not in ("head", "shard", "grid")}
    if output_format.stored == "logits":
        description["attributes"] = {**description["attributes"], "facts": dict(facts)}
    sink = make_sink(output, output_format, plan, description)
    sink.create(exist_ok=True)
    return sink


def _open_ledger(sink: VolumeSink) -> Ledger:
    if sink.bookkeeping is None:
        raise ConfigError(f"{sink.path}: blend and finalize write local stores only")
    return Ledger(sink.bookkeeping)


def _print_result(sink: VolumeSink, target: OutputFile, output_format: OutputFormat, complete: bool) -> None:
    """Print where the result is, after writing it as a file if that was asked for."""
    if complete:
        target.export(sink, output_format)
    rest = "" if complete else "; other parts are not done yet"
    Console(highlight=False).print(
        f"{target.path or sink.image}: {sink.counters.bytes_written / 1e6:,.1f} MB written{rest}"
    )
