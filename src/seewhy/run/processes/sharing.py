"""Commands whose work several processes share by `job.shared=true`; `job.executor=submitit` starts them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seewhy.callbacks.sharing import SharedBatches, SharePrediction
from seewhy.errors import ConfigError, DataError
from seewhy.io.atomic import file_sha256, write_json
from seewhy.io.documents import read_json
from seewhy.option_types import PositiveInt
from seewhy.options import parse_options
from seewhy.run.executor import configure_job, submit_jobs
from seewhy.run.loaded.saved_run import SavedRun
from seewhy.sharing.parts import FORMAT
from seewhy.sharing.tasks import SharedRound

__all__ = ["SharingOptions", "find_notes", "mark_unshared", "read_sharing_options", "share_prediction", "submit_shared"]

NOTES = ".sharing"
"""Folder of the notes inside the folder of the results."""
LATEST = "latest.json"


@dataclass(frozen=True, kw_only=True)
class SharingOptions:
    """All options of `job`, as they are in conf/job/default.yaml."""

    shared: bool = False
    lease: Annotated[float, Ge(1)] = 60
    executor: Literal["submitit"] | None = None
    num_parts: PositiveInt = 2
    submitit: Mapping[str, Any] | None = None

    @property
    def is_used(self) -> bool:
        """Whether several processes share the work."""
        return self.shared or self.executor is not None


def read_sharing_options(config: DictConfig) -> SharingOptions:
    """Read the options of `job`; those of a command without any are the defaults.

    Raises:
        ConfigError: unknown options, or values of wrong types.
    """
    node = config.get("job")
    return (
        SharingOptions() if node is None else parse_options(SharingOptions, OmegaConf.to_container(node), where="job")
    )


def submit_shared(
    config: DictConfig, command: Callable[[DictConfig], Any], job: SharingOptions, *, name: str, output: Path
) -> list[Any]:
    """Start jobs that share the work of a command, and wait until all have ended.

    Args:
        config: of the command.
        command: function of a module, which runs in each job.
        job: options.
        name: of the jobs.
        output: folder of the results; the logs of the jobs are next to it.

    Returns:
        As `submit_jobs`.

    Raises:
        SeewhyError: as `submit_jobs`.
    """
    configs = []
    for part in range(job.num_parts):
        own = configure_job(config)
        own.job.update({"shared": True, "executor": None})
        if part:
            own.logger = None  # one process logs to the trackers of the run
        configs.append(own)
    return submit_jobs(
        command,
        configs,
        options=dict(job.submitit or {}),
        where="job",
        name=name,
        folder=output.with_name(f"{output.name}.jobs"),
        output=str(output),
    )


@contextmanager
def share_prediction(config: DictConfig, run: SavedRun, job: SharingOptions, *, folder: Path) -> Iterator[None]:
    """Let processes that run the same command share the batches of the prediction in this block.

    One process joins the results; its block writes what is made of them, and the others wait for its end. With
    `job.shared=false` this process predicts everything.

    Args:
        config: of the command.
        run: whose Trainer predicts.
        job: options.
        folder: of the results, with the notes of the processes.
    """
    if not job.shared:
        mark_unshared(folder)
        yield
        return
    part = "predict"
    ids = run.datamodule.sample_ids(part)
    groups = run.datamodule.group_ids(ids, part)
    if not groups:
        raise ConfigError(f"{run.datamodule.predict_choice}: nothing to predict; try data.predict_on=all")
    run.datamodule.num_workers = 0  # loaders of single batches, which would start processes for each
    with SharedRound.join(find_notes(config, run, folder, groups=groups), lease=job.lease) as present:
        batches = SharedBatches(present, groups, lambda ids: run.datamodule.loader_of(ids, part))
        run.datamodule.shared = batches
        run.trainer.callbacks.append(SharePrediction(batches))  # type: ignore[attr-defined]
        try:
            yield
        finally:
            run.datamodule.shared = None
        if batches.joins:
            batches.finish()
    tasks = present.tasks
    Console().print(
        f"this process: {batches.predicted} of {len(groups)} batches, {tasks.taken_over} tasks of lost processes, "
        f"{tasks.waited:.1f} s waiting for others",
        soft_wrap=True,
    )


def mark_unshared(folder: Path) -> None:
    """Note that a process alone writes to a folder: what others have left there unfinished is not continued."""
    if (folder / NOTES / LATEST).exists():
        _mark(folder / NOTES, "")


def find_notes(config: DictConfig, run: SavedRun, folder: Path, *, groups: Any = None) -> Path:
    """Find the folder of the notes of a command; a new one if results of others were written since the last time.

    Args:
        config: of the command.
        run: that it works on.
        folder: of the results.
        groups: further plain data that processes must have in common.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    facts = {
        **{key: plain.get(key) for key in ("data", "model", "callbacks", "evaluate", "cases", "figures")},
        "checkpoint": file_sha256(run.checkpoint), "files": run.datamodule.fingerprint(), "groups": groups,
        "precision": str(run.trainer.precision), "format": FORMAT,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return folder / NOTES / f"{key}-{_mark(folder / NOTES, key)}"


def _mark(notes: Path, key: str) -> int:
    """Number of the present change of facts; processes with the same facts that start together get the same."""
    try:
        latest: dict[str, Any] = read_json(notes / LATEST)
        before, number = str(latest["key"]), int(latest["number"])
    except (DataError, KeyError, TypeError, ValueError):
        before, number = "", 0
    if before == key:
        return number
    write_json(notes / LATEST, {"key": key, "number": number + 1})
    return number + 1
