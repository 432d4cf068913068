"""What a volume prediction will cost, and what it has done, in words and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from seewhy.io.atomic import write_json
from seewhy.io.zarr.opening import VolumeSource
from seewhy.io.zarr.sink import VolumeSink
from seewhy.run.volumes.output import plain
from seewhy.run.volumes.preview import draw_preview
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.estimate import Estimate
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["say_estimate", "say_results"]


def say_estimate(costs: Estimate, source: VolumeSource, model: str, note: str | None) -> None:
    """Print what a prediction would read, write and take.

    Args:
        costs: of all parts.
        source: the volume.
        model: its name.
        note: what else the user should know.
    """
    console = Console(highlight=False)
    console.print(f"{source.path}: {_shape(source.shape)} {source.dtype.name}, level {source.level or 'none'}; {model}")
    for line in [*costs.lines(), *([note] if note else [])]:
        console.print(line)


def say_results(config: DictConfig, engine: VolumeEngine, sink: VolumeSink | LogitStore, *, note: str | None) -> None:
    """Print where the result lies and what it took; draw the preview once everything is there.

    Args:
        config: of the command.
        engine: of this process.
        sink: the output.
        note: what else the user should know.
    """
    complete = engine.complete
    facts = {**engine.progress.record(), "output": sink.path, "complete": complete}
    if isinstance(sink, VolumeSink):
        written = sink.counters.record()
        facts |= {key: facts[key] + written[key] for key in ("bytes_written", "writes", "retries")}
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _rows(facts, engine, sink):
        table.add_row(name, value)
    console = Console(highlight=False)
    where = ("logits", sink.path) if isinstance(sink, LogitStore) else ("output", sink.image)
    console.print(f"{where[0]}: {where[1]}", soft_wrap=True)  # to be copied whole
    console.print(table)
    drawn = complete and config.volume.preview and isinstance(sink, VolumeSink)
    preview = None
    if drawn:
        options = plain(config.volume.storage_options)
        preview = draw_preview(engine.source, sink, stored=engine.head.stored, options=options)  # type: ignore[arg-type]
    for line in _lines(sink, complete, preview, note):
        console.print(line, soft_wrap=True)
    if sink.bookkeeping is not None:
        write_json(sink.bookkeeping / f"report-{config.volume.part_id:04d}.json", facts)


def _lines(sink: VolumeSink | LogitStore, complete: bool, preview: Path | None, note: str | None) -> list[str]:
    """What the user should know or do next."""
    lines = [note] if note else []
    if preview:
        lines.append(f"preview: {preview}")
    if not complete:
        lines.append("other parts are not done yet; the last one finishes the store, or start this one again to go on")
    elif isinstance(sink, LogitStore):
        lines.append(f"next: python -m seewhy blend {sink.path} BLENDED.zarr")
    return lines


def _rows(facts: dict[str, Any], engine: VolumeEngine, sink: VolumeSink | LogitStore) -> list[tuple[str, str]]:
    again = f", {facts['retries']:,} tried again" if facts["retries"] else ""
    parts = engine.plan.parts
    rows = [("part", f"{engine.part + 1} of {parts}; what follows is of this part")] if parts > 1 else []
    rows += [
        ("patches", f"{facts['run']:,} predicted, {facts['skipped']:,} skipped as empty"),
        ("time", f"{facts['seconds']:.1f} s, {facts['voxels'] / max(facts['seconds'], 1e-9):,.0f} voxels/s"),
        ("read", f"{facts['bytes_read'] / 1e6:,.1f} MB in {facts['reads']:,} reads{again}"),
    ]
    if isinstance(sink, LogitStore):
        return rows
    size = f"{_shape(sink.shape)} {sink.dtype.name}, zarr v{sink.layout.zarr_format}"
    written = f"{facts['bytes_written'] / 1e6:,.1f} MB in {facts['writes']:,} objects"
    return [("size", size), *rows, ("written", written)]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)  # noqa: RUF001
