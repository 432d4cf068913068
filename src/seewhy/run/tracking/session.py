"""Sessions of experiment trackers: one per command on a run folder, all under the same id."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from typing_extensions import TypedDict

from seewhy import __version__
from seewhy.callbacks.training.gradient_norm import LogHistograms
from seewhy.data.base import BaseDataModule
from seewhy.errors import DataError, SeewhyError
from seewhy.io.atomic import write_json
from seewhy.io.documents import read_json
from seewhy.run.folder import RunFolder, code_version
from seewhy.run.saved_config import load_plain_yaml
from seewhy.tracking.run import RunResults, TrackedRun, Tracker

__all__ = ["TrackingSession", "begin_session", "build_histograms", "find_sweep", "track_job"]

LOGGER = logging.getLogger(__name__)
FILE = "tracking.json"


class TrackingRecord(TypedDict):
    """`tracking.json`: how later commands find the run in the trackers."""

    title: str
    name: str
    number: int
    jobs: list[str]
    trackers: dict[str, dict[str, Any]]
    tags: NotRequired[list[str]]
    notes: NotRequired[str | None]
    group: NotRequired[str | None]


@dataclass
class TrackingSession:
    """A command on a run as its trackers see it.

    Attributes:
        loggers: of the Trainer.
        name: of the run's artifacts, the same for all commands.
        facts: hashes, versions and other facts.
        modes: score → `min` or `max`, for scores that callbacks monitor.
        folder: of the run.
        record: for `tracking.json`.
    """

    loggers: Sequence[Logger]
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    modes: Mapping[str, str] = field(default_factory=dict)
    folder: RunFolder | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trackers(self) -> list[Tracker]:
        """The loggers that know runs."""
        return [logger for logger in self.loggers if isinstance(logger, Tracker)]

    def write_record(self) -> None:
        """Write `tracking.json`, by which later commands continue the run in its trackers."""
        if self.folder is not None and _is_main():
            self.folder.path.mkdir(parents=True, exist_ok=True)
            write_json(self.folder.path / FILE, self.record)

    def rewind(self, step: int) -> None:
        """Remove from all trackers what a continued training logs again."""
        for tracker in self.trackers:
            tracker.rewind(step)

    def log(self, results: RunResults) -> None:
        """Log what the command has made."""
        for tracker in self.trackers:
            tracker.log_results(results)

    def close(self, status: str) -> None:
        """End all loggers with `success` or `failed`, so that the next member of a sweep starts new ones."""
        for logger in self.loggers:
            if isinstance(logger, Tracker):
                line = logger.close(status) if _is_main() else None
                if line:
                    LOGGER.info("%s", line)
            else:
                logger.finalize(status)


def begin_session(
    config: DictConfig,
    loggers: Sequence[Logger],
    *,
    job: str,
    folder: RunFolder,
    datamodule: BaseDataModule | None = None,
    callbacks: Sequence[Callback] = (),
    resumed: bool = True,
) -> TrackingSession:
    """Give the trackers the run before anything is logged.

    Args:
        config: of the command.
        loggers: built, not used yet.
        job: train, predict, explain, evaluate or cases.
        folder: of the run.
        datamodule: set up, for a training; later commands take its facts from the run folder.
        callbacks: of the Trainer; those that monitor a score tell its direction.
        resumed: continue the run of `tracking.json`.
    """
    if not loggers:
        return TrackingSession((), "")
    record = _read_record(folder) if resumed else None
    sweep = find_sweep(folder.path)
    number = record["number"] if record else 1 + _last_number(folder)
    place = f"{sweep}/{folder.path.name}" if sweep else folder.path.absolute().name
    name = f"{config.name}/{place}" + (f" #{number}" if number > 1 else "")
    varied = _find_varied(folder.path) if sweep else []
    jobs = list(dict.fromkeys([*(record["jobs"] if record else []), job]))
    facts = _collect_facts(config, folder, datamodule)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    options = config.get("logger") or {}
    run = {
        "folder": folder.path, "job": job, "jobs": jobs,
        "title": " ".join([record["title"] if record else name, *([] if record else varied)]),
        "group": options.get("group") or sweep, "config": plain, "facts": facts, "modes": _find_modes(callbacks),
    }  # fmt: skip
    found: dict[str, dict[str, Any]] = dict(record["trackers"]) if record else {}
    for logger in loggers if _is_main() else ():
        if isinstance(logger, Tracker):
            earlier = found.get(logger.key)
            found[logger.key] = dict(logger.begin_run(TrackedRun(**run, earlier=earlier)))
    kept = record["name"] if record else name
    before: Mapping[str, Any] = record or {}
    entry = {
        "title": run["title"], "name": kept, "number": number, "jobs": jobs, "group": run["group"],
        "tags": list(options.get("tags") or before.get("tags") or []),
        "notes": options.get("notes") or before.get("notes"),
        "trackers": {key: item for key, item in found.items() if item},
    }  # fmt: skip
    return TrackingSession(loggers, make_artifact_name(kept), facts, run["modes"], folder, entry)


@contextmanager
def track_job(
    config: DictConfig, loggers: Sequence[Logger], folder: RunFolder, *, job: str
) -> Iterator[TrackingSession]:
    """Let a later command on a run log to the run of its model; closes the trackers at the end of the block."""
    session = begin_session(config, loggers, job=job, folder=folder)
    session.write_record()
    status = "failed"
    try:
        yield session
        status = "success"
    finally:
        session.close(status)


def build_histograms(config: DictConfig) -> list[Callback]:
    """Build the callback of `logger.watch`; an empty list without."""
    watch = (config.get("logger") or {}).get("watch")
    return [] if watch is None else [LogHistograms(watch)]


def find_sweep(folder: Path) -> str | None:
    """Return the name of the sweep that a run folder is a member of: that of the folder around it; else None."""
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        return Path(HydraConfig.get().sweep.dir).name
    parent = folder.absolute().parent
    return parent.name if (parent / "multirun.yaml").is_file() else None


def make_artifact_name(text: str) -> str:
    """Replace what no tracker allows in a name.

    Example:
        >>> make_artifact_name("demo/amd/2026-11-29 #2")
        'demo-amd-2026-11-29-2'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:100]


def _is_main() -> bool:
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def _read_record(folder: RunFolder) -> TrackingRecord | None:
    """Read `tracking.json`; None where the run was not tracked, or where the file is damaged."""
    try:
        record: TrackingRecord = read_json(folder.path / FILE, TrackingRecord)
    except DataError:
        return None
    return record


def _last_number(folder: RunFolder) -> int:
    """Number of the last run that began in this folder, from the records that were kept; 0 without any."""
    numbers = [0]
    for path in (folder.path / "earlier").glob(f"*/{FILE}"):
        kept = _read_record(RunFolder(path.parent))
        numbers.append(kept["number"] if kept else 0)
    return max(numbers)


def _find_varied(folder: Path) -> list[str]:
    """Overrides of this member that are not those of the whole sweep."""
    if not HydraConfig.initialized():
        return []
    mine = list(HydraConfig.get().overrides.task)
    try:
        sweep: Any = load_plain_yaml(folder.absolute().parent / "multirun.yaml")
        common = {str(word).lower() for word in sweep["hydra"]["overrides"]["task"]}  # Hydra writes false as False
    except (SeewhyError, KeyError, TypeError):
        common = set()
    return [word for word in mine if word.lower() not in common and not word.startswith("hydra.")]


def _collect_facts(config: DictConfig, folder: RunFolder, datamodule: BaseDataModule | None) -> dict[str, Any]:
    """Collect the facts besides the options in which runs differ: split, data and numbers of patients."""
    if datamodule is not None:
        split = datamodule.split_record()
        saved: Mapping[str, Any] = {"split": split["hash"], "data": datamodule.fingerprint()}
        counts = {f"{part}_patients": len(split[part]) for part in ("train", "val", "test") if part in split}
    else:
        saved, counts = _read_saved_facts(folder), {}
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return {
        "experiment": choices.get("experiment") or config.name,
        "fold": OmegaConf.select(config, "data.fold"),
        "data_hash": saved.get("data"),
        "split_hash": saved.get("split"),
        "code_version": code_version(),
        "seewhy_version": __version__,
        "run_folder": str(folder.path.absolute()),
        **({} if datamodule is None else {"is_phantom": datamodule.is_phantom}),
        **counts,
    }


def _read_saved_facts(folder: RunFolder) -> Mapping[str, Any]:
    try:
        record = load_plain_yaml(folder.path / "config.yaml")
    except SeewhyError:
        return {}
    facts = record.get("seewhy") if isinstance(record, dict) else None
    return facts if isinstance(facts, dict) else {}


def _find_modes(callbacks: Sequence[Callback]) -> dict[str, str]:
    """Score → direction, for the scores that callbacks monitor."""
    judges = [item for item in callbacks if isinstance(item, (ModelCheckpoint, EarlyStopping))]
    return {item.monitor: item.mode for item in judges if item.monitor is not None}
