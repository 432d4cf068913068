"""Start processes of one command as jobs of a cluster or of this machine, through submitit, and wait for them."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seewhy.errors import ConfigError, DataError

__all__ = ["configure_job", "print_output", "run_job", "submit_jobs"]

POLL = 2.0
"""Seconds between two looks at the jobs."""
FAILED = {"FAILED", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "INTERRUPTED", "UNKNOWN"}


def submit_jobs(
    command: Callable[[DictConfig], Any],
    configs: Sequence[DictConfig],
    *,
    options: dict[str, Any],
    where: str,
    name: str,
    folder: Path,
    output: str,
    is_complete: Callable[[], bool] = lambda: True,
) -> list[Any]:
    """Submit one job for each configuration, and wait until all have ended.

    Jobs that are lost need no restart while others run, because these take over what was claimed. Those who stop
    waiting, e.g. by Ctrl-C, leave the jobs running.

    Args:
        command: function of a module; runs in each job.
        configs: of the jobs.
        options: of `submitit.AutoExecutor.update_parameters`, and `cluster`: null for SLURM where it is installed and
            processes of this machine elsewhere, or `local`.
        where: options of the command that lead here, e.g. `volume.job`.
        name: of the jobs.
        folder: of their logs.
        output: that they write, for messages about failures.
        is_complete: whether the output is complete, asked when all jobs have ended and at least one did not fail.

    Returns:
        What the function has returned in each job that did not fail.

    Raises:
        ConfigError: submitit is not installed, or an option of a job is wrong.
        DataError: all jobs have ended, and the output is not complete.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(f"{where}.executor=submitit needs submitit: pip install 'seewhy[sweep]'") from error
    console = Console(highlight=False)
    executor = _make_executor(submitit, options, folder, name, where)
    with executor.batch():
        jobs = [executor.submit(run_job, command, OmegaConf.to_yaml(config)) for config in configs]
    console.print(f"{len(jobs)} jobs ({', '.join(job.job_id for job in jobs)}), logs in {folder}", soft_wrap=True)
    try:
        _watch(jobs, console)
    except KeyboardInterrupt:
        console.print("no longer watching; the jobs go on, and the same command shows the result")
        raise
    failed = [job for job in jobs if job.state.upper().split()[0] in FAILED or job.exception() is not None]
    for job in failed:
        console.print(f"job {job.job_id} ended early: {job.paths.stderr}", soft_wrap=True)
    if len(failed) == len(jobs) or not is_complete():
        reason = _last_line(failed[0].paths.stderr) if failed else "no job reports a reason"
        raise DataError(
            f"{output} is not complete, {len(failed)} of {len(jobs)} jobs ended early ({reason}); "
            "start the same command again to continue"
        )
    return [job.result() for job in jobs if job not in failed]


def print_output(output: object) -> None:
    """Print where the results of finished jobs are."""
    Console(highlight=False).print(f"output: {output}", soft_wrap=True)


def run_job(command: Callable[[DictConfig], Any], text: str) -> Any:
    """Run a command in a job, and return its result.

    Args:
        command: takes the configuration.
        text: configuration as YAML.
    """
    return command(cast("DictConfig", OmegaConf.create(text)))


def configure_job(config: DictConfig) -> DictConfig:
    """A copy of a resolved configuration for a job, whose log is a file and shows no progress bar."""
    job = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(job, DictConfig)
    if job.trainer is not None:
        job.trainer.enable_progress_bar = False
    return job


def _make_executor(submitit: Any, options: dict[str, Any], folder: Path, name: str, where: str) -> Any:
    """An executor with the options of the jobs."""
    cluster, is_new = options.pop("cluster", None), not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": name, "timeout_min": 24 * 60, **options})
    except Exception as error:  # submitit raises errors of many kinds
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{where}.submitit: {reason}; expected options of submitit's AutoExecutor, e.g. "
            "{slurm_partition: gpu, timeout_min: 240, gpus_per_node: 1}"
        ) from error
    return executor


def _watch(jobs: list[Any], console: Console) -> None:
    """Wait for all jobs, and print how many are in which state when that changes."""
    shown: Counter[str] = Counter()
    while True:
        ended = [job.done() for job in jobs]
        states = Counter("ended" if end else job.state.lower() for job, end in zip(jobs, ended, strict=True))
        if states != shown:
            console.print(", ".join(f"{count} {state}" for state, count in sorted(states.items())))
            shown = states
        if all(ended):
            return
        time.sleep(POLL)


def _last_line(path: Path) -> str:
    """Last line of a log, which names the error."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else f"see {path}"
