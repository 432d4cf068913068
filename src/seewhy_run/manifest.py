"""`export.json`: the description of an export, checked whole before any network is opened."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seewhy_run.checksums import file_sha256
from seewhy_run.errors import RunError, suggest
from seewhy_run.fields import build
from seewhy_run.graphs import Graph, GraphRecord, open_graph
from seewhy_run.steps.base import Step, build_step, describe_step

__all__ = ["FORMAT", "MANIFEST", "VERSION", "Export", "Manifest", "read_export"]

MANIFEST = "export.json"
FORMAT, VERSION = "seewhy-export", 1
MAX_BYTES = 4 << 20
"""A description is a few kilobytes; a larger file is something else."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of `export.json`.

    Attributes:
        format: `seewhy-export`.
        version: of this description; a runner refuses others.
        model: `onnx` or `torch_export`.
        name: of the run.
        inputs: names of a case's files, in order.
        optional: whether a case may lack some of its inputs.
        graphs: name → its file, see `GraphRecord`.
        steps: in order, see `seewhy_run.steps.base.STEPS`.
        classes: names of the classes; empty where there are none.
        source: run, checkpoint hash, versions, and hashes of data and split.
        requirements: packages that the runner needs.
        limits: intended use, and what the export was measured to do.

    Raises:
        RunError: no inputs, no steps, or an input that is named twice.
    """

    format: str
    version: int
    model: str
    name: str
    inputs: tuple[str, ...]
    graphs: dict[str, Any]
    steps: tuple[Any, ...]
    optional: bool = False
    classes: tuple[str, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.inputs or not self.steps or len(set(self.inputs)) < len(self.inputs):
            raise RunError(
                f"{MANIFEST}: {len(self.steps)} steps, inputs {', '.join(self.inputs) or 'none'}; expected steps and "
                "different names of inputs"
            )


@dataclass(frozen=True)
class Export:
    """An export that is ready to run.

    Attributes:
        manifest: its description.
        steps: in order.
        graphs: name → network.
    """

    manifest: Manifest
    steps: tuple[Step, ...]
    graphs: dict[str, Graph]


def read_export(folder: str | Path, *, threads: int = 0) -> Export:
    """Read and check a folder that `seewhy export` wrote, and open its networks.

    Args:
        folder: with `export.json`.
        threads: of the networks; 0 takes all cores.

    Raises:
        RunError: a description that is damaged, of another version or with unknown steps; a network that is missing or
            has another checksum; a library that is not installed.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder / MANIFEST)
    steps = tuple(build_step(record, f"{MANIFEST}: step {n}") for n, record in enumerate(manifest.steps, start=1))
    _check_order(steps)
    records = {
        name: build(GraphRecord, record, f"{MANIFEST}: network {name}") for name, record in manifest.graphs.items()
    }
    _check_graphs(steps, records)
    for record in records.values():
        _check_file(folder, record)
    if manifest.model != "onnx":
        raise RunError(
            f"{folder} holds a program of {manifest.model}, which needs torch (torch.export.load); this runner runs "
            "exports of format=onnx"
        )
    graphs = {name: open_graph(folder / record.file, record, threads=threads) for name, record in records.items()}
    return Export(manifest, steps, graphs)


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise RunError(f"{path} does not exist; give a folder that `seewhy export` wrote")
    if path.stat().st_size > MAX_BYTES:
        raise RunError(f"{path} is not a description of an export ({path.stat().st_size} bytes)")
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_float=_parse_float, parse_constant=_parse_float)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(f"{path} is not the description of an export")
    if record.get("version") != VERSION:
        raise RunError(
            f"{path} has version {record.get('version')!r}, this runner reads {VERSION}; use the runner in the "
            "export's own folder (run.py), or export again"
        )
    return build(Manifest, record, MANIFEST)


def _parse_float(text: str) -> float:
    """Parse a number of JSON; NaN, infinities and numbers beyond float64 raise a ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _check_order(steps: tuple[Step, ...]) -> None:
    """Refuse steps that need what no earlier step makes, and those that are there twice."""
    made: set[str] = set()
    kinds: list[type] = []
    for number, step in enumerate(steps, start=1):
        if type(step) in kinds:
            raise RunError(f"{MANIFEST}: step {number} ({type(step).__name__}) is there twice")
        kinds.append(type(step))
        missing = [name for name in step.needs if name not in made]
        if missing:
            raise RunError(
                f"{MANIFEST}: step {number} ({type(step).__name__}) needs {missing[0]}, which no earlier step makes"
            )
        made |= set(step.gives)


def _check_graphs(steps: tuple[Step, ...], records: dict[str, GraphRecord]) -> None:
    """Refuse steps that run a network without a file."""
    for number, step in enumerate(steps, start=1):
        graph = describe_step(step).get("graph")
        if graph is not None and graph not in records:
            raise RunError(f"{MANIFEST}: step {number} runs the network {graph!r}; {suggest(graph, records)}")


def _check_file(folder: Path, record: GraphRecord) -> None:
    """Compare a network's file with its description."""
    if Path(record.file).name != record.file:
        raise RunError(f"{MANIFEST}: {record.file!r} is not a file of the export's folder")
    path = folder / record.file
    if not path.is_file():
        raise RunError(f"{path} does not exist; copy the export's folder as a whole")
    if path.stat().st_size != record.bytes or file_sha256(path) != record.sha256:
        raise RunError(f"{path} is not the file that {MANIFEST} describes (another SHA-256); export again")
