"""Types of what a tracker records: the run, its results, outcomes of a classifier, and files with their lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

__all__ = [
    "ArtifactKind",
    "Outcomes",
    "RunArtifact",
    "RunResults",
    "TrackedRun",
    "Tracker",
    "WatchedValues",
    "WatchesWeights",
]

ArtifactKind: TypeAlias = Literal["data", "model", "results", "maps"]
WatchedValues: TypeAlias = Literal["gradients", "parameters", "all"]
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run, or a later command on it, as a tracker shows it.

    Attributes:
        folder: the run folder.
        job: the command: train, predict, explain, evaluate or cases.
        jobs: the commands on this run so far, this one included.
        title: name of the run, which tells it from others of its experiment.
        group: name of the sweep, or None.
        config: the whole resolved configuration as plain data.
        facts: hashes of data and split, code version, fold, experiment, …
        modes: score → `min` or `max`, for scores whose name does not tell.
        earlier: what the tracker recorded of itself when the run began; None for a new run.
    """

    folder: Path
    job: str
    jobs: Sequence[str]
    title: str
    group: str | None
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    modes: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Classes of tested cases or slices, and their calibrated probabilities.

    Attributes:
        classes: names of the K classes.
        truth: [N, K] bool.
        probability: [N, K] in [0, 1].
        exclusive: whether each case has one class.
    """

    classes: Sequence[str]
    truth: NDArray[np.bool_]
    probability: NDArray[np.float64]
    exclusive: bool


@dataclass(frozen=True, kw_only=True)
class RunArtifact:
    """Files of a run that belong together.

    Attributes:
        kind: data are a reference to a folder, whose files are not copied.
        name: of the artifact; the same for every version of it.
        files: name in the artifact → file.
        facts: plain data about it.
        uses: names of the artifacts that it was made from.
        reference: the folder that it stands for, for data.
        is_input: the job reads it; another one has made it.
    """

    kind: ArtifactKind
    name: str
    files: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    uses: Sequence[str] = ()
    reference: Path | None = None
    is_input: bool = False


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """What a job has made.

    Attributes:
        step: see `seewhy.tracking.media.find_step`.
        scores: name → number, of a test.
        best: score → best value of all epochs, also of those before a resume.
        tables: name → rows.
        outcomes: of a classifier.
        figures: caption → picture file.
        artifacts: in the order of their lineage.
    """

    step: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    outcomes: Outcomes | None = None
    figures: Mapping[str, Path] = field(default_factory=dict)
    artifacts: Sequence[RunArtifact] = ()


@runtime_checkable
class Tracker(Protocol):
    """A logger that knows runs, and not only numbers."""

    key: str
    """Name of its entry in `tracking.json`."""

    def begin_run(self, run: TrackedRun) -> Mapping[str, Any]:
        """Take a run before the first number is logged; returns plain data by which a later job finds it again."""

    def rewind(self, step: int) -> None:
        """Remove what was logged from a step on, which a continued training logs again."""

    def log_results(self, results: RunResults) -> None:
        """Log what a job has made."""

    def close(self, status: str) -> str | None:
        """End the job with `success` or `failed`; returns a line for the user, or None."""


@runtime_checkable
class WatchesWeights(Protocol):
    """A tracker that draws histograms of gradients and parameters."""

    def watch_weights(self, module: nn.Module, what: WatchedValues, every: int) -> None:
        """Begin to watch, every some steps."""

    def log_histograms(self, module: nn.Module, what: WatchedValues, step: int) -> None:
        """Log them now, for trackers that do not watch by themselves."""
