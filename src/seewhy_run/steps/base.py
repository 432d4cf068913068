"""What all steps share: the state of a case on its way from files to results, and the registry of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from seewhy_run.errors import RunError, suggest
from seewhy_run.fields import build
from seewhy_run.graphs import Graph

__all__ = ["STEPS", "State", "Step", "build_step", "describe_step"]


@dataclass
class State:
    """One case on its way through the steps.

    Attributes:
        id: safe as a file name.
        files: input → file; None for an input that the case does not have.
        folder: of the results.
        values: what the steps so far have made, by name.
        rows: of the table of results.
        written: files.
    """

    id: str
    files: dict[str, Path | None]
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)


class Step(Protocol):
    """A step: a frozen dataclass of plain data."""

    needs: ClassVar[tuple[str, ...]]
    """Names in `State.values` that earlier steps must have made."""
    gives: ClassVar[tuple[str, ...]]
    """Names that it adds."""

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Do the step for one case.

        Raises:
            RunError: a file that cannot be read, or values that do not fit.
        """


STEPS = {
    "activation_maps": "seewhy_run.steps.maps:ActivationMaps",
    "classify": "seewhy_run.steps.classify:Classify",
    "read_modalities": "seewhy_run.steps.modalities:ReadModalities",
    "read_planes": "seewhy_run.steps.planes:ReadPlanes",
    "read_slices": "seewhy_run.steps.slices:ReadSlices",
    "read_stack": "seewhy_run.steps.stacks:ReadStack",
    "read_subject": "seewhy_run.steps.subjects:ReadSubject",
    "read_volume": "seewhy_run.steps.volumes:ReadVolume",
    "regions": "seewhy_run.steps.maps:Regions",
    "segment_windows": "seewhy_run.steps.windows:SegmentWindows",
    "translate": "seewhy_run.steps.translate:Translate",
    "write_maps": "seewhy_run.steps.slices:WriteMaps",
    "write_scans": "seewhy_run.steps.subjects:WriteScans",
    "write_volume": "seewhy_run.steps.volumes:WriteVolume",
}
"""Name → module and class; only the steps of an export are imported, since some need further libraries."""


def build_step(record: Any, where: str) -> Step:
    """Build a step from its description.

    Raises:
        RunError: an unknown step or option, a value of another type, or a library that is not installed.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("step"), str):
        raise RunError(f"{where} is {record!r:.60}; expected a mapping with the name of a `step`")
    name = record["step"]
    if name not in STEPS:
        raise RunError(f"{where}: step {name!r} is unknown to this runner; {suggest(name, STEPS)}")
    module, _, kind = STEPS[name].partition(":")
    try:
        found: type[Step] = getattr(import_module(module), kind)
    except ModuleNotFoundError as error:
        package = {"PIL": "pillow"}.get(str(error.name), str(error.name).split(".")[0])
        raise RunError(f"step {name!r} needs {package}: pip install {package}") from error
    return build(found, {key: value for key, value in record.items() if key != "step"}, f"{where} ({name})")


def describe_step(step: Any) -> dict[str, Any]:
    """Describe a step as plain data, the inverse of `build_step`."""
    place = f"{type(step).__module__}:{type(step).__name__}"
    return {"step": next(name for name, target in STEPS.items() if target == place), **asdict(step)}
