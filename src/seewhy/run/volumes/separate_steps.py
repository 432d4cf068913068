"""The separate steps after `volume.keep_logits=true`: blend the patches' logits, then make a result of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from seewhy.errors import ConfigError
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import VolumeSink, open_sink
from seewhy.run.volumes.output import make_sink
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.geometry import PatchGrid
from seewhy.volumes.memory import Costs, parse_bytes
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, make_plan
from seewhy.volumes.separate_steps import blend, finalize
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["blend_logits", "finalize_logits"]


def blend_logits(
    logits: str,
    output: str,
    *,
    window: str = "gaussian",
    head: Mapping[str, Any] | None = None,
    memory_budget: str = "4GB",
    part: int = 0,
    parts: int = 1,
) -> bool:
    """Blend what `volume.keep_logits=true` has stored.

    Args:
        logits: its output.
        output: zarr store to write.
        window: weights of a patch's voxels: gaussian, nnunet, hann or constant.
        head: changes of how the result is stored (`mode`, `stored`, `threshold`); None keeps blended logits.
        memory_budget: bytes of this process.
        part: which of `parts` this process makes.
        parts: processes that share the work.

    Returns:
        Whether the output is complete.
    """
    store = LogitStore(logits)
    chosen = _head(store.facts["head"], {"stored": "logits"} if head is None else head)
    plan = _plan(store.grid, chosen, store.facts["shard"], memory_budget, parts)
    sink = _created(output, chosen, plan, {**store.facts, "grid": _record(store.grid)})
    with Progress(transient=True) as bar:
        task = bar.add_task("blending", total=None)
        done = blend(
            store,
            sink=sink,
            head=chosen,
            plan=plan,
            window=window,
            ledger=_ledger(sink),
            part=part,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
    _say(sink, done)
    return done


def finalize_logits(
    blended: str,
    output: str,
    *,
    head: Mapping[str, Any] | None = None,
    memory_budget: str = "4GB",
    part: int = 0,
    parts: int = 1,
) -> bool:
    """Make a result of blended logits.

    Args:
        blended: output of `blend_logits`.
        output: zarr store to write.
        head: changes of how the result is stored (`mode`, `stored`, `threshold`).
        memory_budget: bytes of this process.
        part: which of `parts` this process makes.
        parts: processes that share the work.

    Returns:
        Whether the output is complete.

    Raises:
        ConfigError: `blended` holds no blended logits of ours.
    """
    made = open_sink(blended)
    facts = made.attributes.get("facts")
    if not isinstance(facts, Mapping) or made.attributes.get("stored") != "logits":
        raise ConfigError(f"{blended} holds no blended logits; `python -m seewhy blend` makes them")
    if not made.finished:
        raise ConfigError(f"{blended} is not complete; start the parts of blend that have not ended again")
    chosen = _head(facts["head"], head or {})
    grid = PatchGrid(**facts["grid"])
    plan = _plan(grid, chosen, facts["shard"], memory_budget, parts)
    sink = _created(output, chosen, plan, facts)
    done = finalize(
        open_source(made.image, level=0), sink=sink, head=chosen, plan=plan, ledger=_ledger(sink), part=part
    )
    _say(sink, done)
    return done


def _head(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> OutputFormat:
    """The head of the prediction with what is wished otherwise; None counts as no wish."""
    changed = {key: value for key, value in changes.items() if value is not None}
    order = settings.get("class_order") if changed.get("mode", settings["mode"]) == "regions" else None
    return OutputFormat(**{**settings, **changed, "class_order": order})


def _plan(grid: PatchGrid, head: OutputFormat, shard: list[int], memory_budget: str, parts: int) -> Plan:
    costs = Costs(
        grid=grid,
        head=head,
        channels=head.channels,
        itemsize=np.dtype(np.float16).itemsize,
        chunks=grid.patch,
        shard=(shard[0], shard[1], shard[2]),
        batch_size=1,
    )
    return make_plan(costs, memory_budget=parse_bytes(memory_budget), parts=parts)


def _created(output: str, head: OutputFormat, plan: Plan, facts: Mapping[str, Any]) -> VolumeSink:
    """The output; blended logits keep the facts that `finalize` needs."""
    description = {key: value for key, value in facts.items() if key not in ("head", "shard", "grid")}
    if head.stored == "logits":
        description["attributes"] = {**description["attributes"], "facts": dict(facts)}
    sink = make_sink(output, head, plan, description)
    sink.create(exist_ok=True)
    return sink


def _record(grid: PatchGrid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "patch": list(grid.patch), "overlap": grid.overlap}


def _ledger(sink: VolumeSink) -> Ledger:
    if sink.bookkeeping is None:
        raise ConfigError(f"{sink.path}: blend and finalize write local stores only")
    return Ledger(sink.bookkeeping)


def _say(sink: VolumeSink, done: bool) -> None:
    rest = "" if done else "; other parts are not done yet"
    Console(highlight=False).print(f"{sink.image}: {sink.counters.bytes_written / 1e6:,.1f} MB written{rest}")
