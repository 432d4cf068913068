"""Create the output of a volume prediction, and print its costs and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from seewhy.errors import ConfigError
from seewhy.io.atomic import write_json
from seewhy.io.zarr.sink import VolumeSink, plan_sink
from seewhy.io.zarr.source import VolumeSource
from seewhy.io.zarr.store import is_remote
from seewhy.run.build import to_plain_data
from seewhy.run.volumes.input import is_phantom
from seewhy.run.volumes.model import VolumeModel
from seewhy.run.volumes.output_file import OutputFile, choose_output
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.estimate import Estimate
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan
from seewhy.volumes.stored_logits import LogitStore

__all__ = [
    "choose_shard",
    "describe_output",
    "make_logit_store",
    "make_sink",
    "print_estimate",
    "print_results",
]

SMALL_SHARD, LARGE_SHARD, LARGE_VOLUME = 128, 256, 2e9
"""Edges of shards, and the number of voxels above which a volume gets large ones."""


def describe_output(volume: DictConfig, source: VolumeSource, model: VolumeModel) -> dict[str, Any]:
    """Describe an output as plain data: grid of the level that is read, chunks, names and provenance.

    Args:
        volume: the options `volume`.
        source: the input.
        model: the networks.
    """
    return {
        "chunk": [int(size) for size in volume.store.chunk],
        "zarr_format": int(volume.store.zarr_format),
        "spacing": None if source.spacing is None else list(source.spacing),
        "translation": None if source.translation is None else list(source.translation),
        "unit": source.unit,
        "name": volume.store.name,
        "classes": {str(value): name for value, name in (model.classes or {}).items()},
        "attributes": {
            "model": model.name,
            "weights_sha256": model.sha256,
            "input": source.path,
            "level": source.level,
            "phantom": is_phantom(source.path),
            "affine": None if source.affine is None else source.affine.tolist(),
        },
    }


def make_sink(
    path: str,
    output_format: OutputFormat,
    plan: Plan,
    description: Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> VolumeSink:
    """Describe the output store for an output format, without creating it.

    Args:
        path: of the store.
        output_format: gives dtype, channels and scale.
        plan: gives the shards.
        description: see `describe_output`.
        options: of the store.
    """
    classes = {int(value): name for value, name in description["classes"].items()}
    meaning = {
        "mode": output_format.mode,
        "stored": output_format.stored,
        "scale": output_format.scale,  # stored value of probability 1
        "classes": description["classes"],
        "channels": output_format.names(classes) if output_format.planes is not None else None,
    }
    return plan_sink(
        path,
        **{
            **description,
            "shape": output_format.shape(plan.costs.grid.shape),
            "dtype": output_format.dtype,
            "shard": plan.costs.shard,
            "attributes": {**meaning, **description["attributes"]},
            "labels": output_format.labels,
            "classes": classes if output_format.labels else None,
            "options": options,
        },
    )


def make_logit_store(volume: DictConfig, plan: Plan, description: Mapping[str, Any]) -> LogitStore:
    """Create or open the store for the logits of all patches.

    Raises:
        ConfigError: a remote output, or the path holds something else.
    """
    if is_remote(volume.output):
        raise ConfigError(f"volume.job.keep_logits=true needs a local volume.output, not {volume.output}")
    if choose_output(volume.output).path is not None:
        raise ConfigError(
            f"volume.job.keep_logits=true writes a store: volume.output={volume.output} must end in .zarr"
        )
    if volume.overwrite:
        raise ConfigError("volume.overwrite does not replace logits; remove them, or choose another volume.output")
    output_format = plan.costs.output_format
    facts = {**description, "head": output_format.settings(), "shard": list(plan.costs.shard)}
    return LogitStore.create(volume.output, grid=plan.costs.grid, channels=output_format.channels, facts=facts)


def choose_shard(shape: Sequence[int], volume: DictConfig) -> tuple[int, int, int]:
    """Edges of a shard: `volume.store.shard`, or by the volume's size; at most the volume in whole chunks."""
    chunk = [int(size) for size in volume.store.chunk]
    z, y, x = shape
    usual = LARGE_SHARD if z * y * x > LARGE_VOLUME else SMALL_SHARD
    default = [-(-usual // max(size, 1)) * size for size in chunk]
    shard = [int(edge) for edge in (default if volume.store.shard is None else volume.store.shard)]
    if len(chunk) != 3 or len(shard) != 3 or min((*chunk, *shard)) < 1:
        raise ConfigError(
            f"volume.store.chunk={chunk} and volume.store.shard={shard}; expected three numbers, each 1 or more"
        )
    first, second, third = (
        min(edge, -(-length // size) * size) for edge, length, size in zip(shard, shape, chunk, strict=True)
    )
    return first, second, third


def print_estimate(costs: Estimate, source: VolumeSource, model: str, warning: str | None) -> None:
    """Print what a prediction would read, write and take.

    Args:
        costs: of all parts.
        source: the volume.
        model: its name.
        warning: of `check_input`.
    """
    console = Console(highlight=False)
    shape = _format_shape(source.shape)
    console.print(
        f"{source.path}: {shape} {source.dtype.name}, level {source.level or 'none'}; {model}", soft_wrap=True
    )
    for line in [*costs.lines(), *([warning] if warning else [])]:
        console.print(line)


def print_results(
    config: DictConfig,
    engine: VolumeEngine,
    sink: VolumeSink | LogitStore,
    target: OutputFile,
    *,
    warning: str | None,
) -> None:
    """Print where the result is and what it took; draw the preview and write the file once the output is complete.

    Args:
        config: of the command.
        engine: of this process.
        sink: the output.
        target: the file to write, if it is not the output itself.
        warning: of `check_input`.
    """
    complete = engine.complete
    facts = {**engine.progress.record(), "output": sink.path, "complete": complete}
    if isinstance(sink, VolumeSink):
        written = sink.counters.record()
        facts |= {key: facts[key] + written[key] for key in ("bytes_written", "writes", "retries")}
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _rows(facts, engine, sink, target):
        table.add_row(name, value)
    console = Console(highlight=False)
    kind, path = ("logits", sink.path) if isinstance(sink, LogitStore) else ("output", target.path or sink.image)
    console.print(f"{kind}: {path}", soft_wrap=True)  # one line, to be copied
    console.print(table)
    preview: Path | None = None
    if complete and config.volume.preview and isinstance(sink, VolumeSink):
        from seewhy.run.volumes.preview import draw_preview

        options = to_plain_data(config.volume.storage_options)
        preview = draw_preview(
            engine.source, sink, stored=engine.output_format.stored, options=options, picture=target.picture
        )
    lines = [warning] if warning else []
    if preview:
        lines.append(f"preview: {preview}")
    if isinstance(sink, LogitStore):
        lines.append(f"next: python -m seewhy blend {sink.path} BLENDED.zarr")
    for line in lines:
        console.print(line, soft_wrap=True)
    if sink.bookkeeping is not None:
        write_json(sink.bookkeeping / f"report-{engine.worker}.json", facts)
    if complete and isinstance(sink, VolumeSink):
        target.export(sink, engine.output_format)


def _rows(
    facts: dict[str, Any], engine: VolumeEngine, sink: VolumeSink | LogitStore, target: OutputFile
) -> list[tuple[str, str]]:
    retries = f", {facts['retries']:,} retries" if facts["retries"] else ""
    rows = _describe_sharing(engine)
    rows += [
        ("patches", f"{facts['run']:,} predicted, {facts['skipped']:,} skipped as empty"),
        ("time", f"{facts['seconds']:.1f} s, {facts['voxels'] / max(facts['seconds'], 1e-9):,.0f} voxels/s"),
        ("read", f"{facts['bytes_read'] / 1e6:,.1f} MB in {facts['reads']:,} reads{retries}"),
    ]
    if isinstance(sink, LogitStore):
        return rows
    kind = f"zarr v{sink.layout.zarr_format}" if target.path is None else f"a scan {target.path.name}"
    size = f"{_format_shape(sink.shape)} {sink.dtype.name}, {kind}"
    written = f"{facts['bytes_written'] / 1e6:,.1f} MB in {facts['writes']:,} objects"
    return [("size", size), *rows, ("written", written)]


def _describe_sharing(engine: VolumeEngine) -> list[tuple[str, str]]:
    """What this process did for others and they for it; nothing if it worked alone."""
    progress, rows = engine.progress, []
    if progress.elsewhere:
        share = progress.elsewhere / max(progress.voxels, 1)
        number = f"number {int(engine.worker)}, with others, which wrote {share:.0%} meanwhile"
        rows = [("process", f"{number}; the numbers below are of this one")]
    taken = [f"{count} of process {int(name)}" for name, count in sorted(progress.taken_over.items())]
    if taken:
        rows.append(("taken over", f"rows of shards whose process was lost: {', '.join(taken)}"))
    if progress.helped:
        rows.append(("helped", f"{progress.helped} rows of shards of slower processes computed again"))
    if progress.waited >= 1:
        rows.append(("waited", f"{progress.waited:.1f} s for the last of the others"))
    return rows


def _format_shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)  # noqa: RUF001
