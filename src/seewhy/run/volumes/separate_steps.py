"""Steps after a prediction with `volume.job.keep_logits=true`: blend the patches' logits, then finalize a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from seewhy.errors import ConfigError
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

__all__ = ["blend_logits", "finalize_logits"]


def blend_logits(
    logits: str,
    output: str,
    *,
    window: str = "gaussian",
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
    plan = _make_plan(store.grid, chosen, store.facts["shard"], memory_budget, parts)
    target.check(chosen, store.grid.shape, memory_budget=parse_bytes(memory_budget), parts=parts)
    grid = {"shape": list(store.grid.shape), "patch": list(store.grid.patch), "overlap": store.grid.overlap}
    sink = _create_sink(target.store, chosen, plan, {**store.facts, "grid": grid})
    with Progress(transient=True) as bar:
        task = bar.add_task("blending", total=None)
        complete = blend(
            store,
            sink=sink,
            output_format=chosen,
            plan=plan,
            window=window,
            ledger=_open_ledger(sink),
            part=part,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    _print_result(sink, target, chosen, complete)
    return complete


def finalize_logits(
    blended: str,
    output: str,
    *,
    output_format: Mapping[str, Any] | None = None,
    memory_budget: str = "4GB",
    part: int = 0,
    parts: int = 1,
) -> bool:
    """Make a result of blended logits.

    Args:
        blended: output of `blend_logits`.
        output: zarr store to write.
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
    facts = store.attributes.get("facts")
    if not isinstance(facts, Mapping) or store.attributes.get("stored") != "logits":
        raise ConfigError(f"{blended} holds no blended logits; create them with `python -m seewhy blend`")
    if not store.finished:
        raise ConfigError(f"{blended} is not complete; start the same blend again to complete it")
    chosen = _change_format(facts["head"], output_format or {})
    target = choose_output(output, option="OUTPUT")
    grid = PatchGrid(**facts["grid"])
    target.check(chosen, grid.shape, memory_budget=parse_bytes(memory_budget), parts=parts)
    plan = _make_plan(grid, chosen, facts["shard"], memory_budget, parts)
    sink = _create_sink(target.store, chosen, plan, facts)
    source = open_source(store.image, level=0)
    complete = finalize(source, sink=sink, output_format=chosen, plan=plan, ledger=_open_ledger(sink), part=part)
    _print_result(sink, target, chosen, complete)
    return complete


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
