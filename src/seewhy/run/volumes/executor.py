"""Start the processes of a volume prediction as jobs of a cluster or of this machine, through submitit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.sink import open_sink
from seewhy.io.zarr.store import local_folder
from seewhy.run.volumes.model import to_plain_data

__all__ = ["submit_prediction"]

POLL = 2.0
"""Seconds between two looks at the jobs."""
FAILED = {"FAILED", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "INTERRUPTED", "UNKNOWN"}


def submit_prediction(config: DictConfig, predict: Callable[[str], None]) -> None:
    """Submit `volume.job.num_parts` jobs that run this prediction, and wait until all have ended.

    Jobs that are lost need no restart while others run, because these take over what was claimed. Those who stop
    waiting, e.g. by Ctrl-C, leave the jobs running.

    Args:
        config: of the command; `volume.job.submitit` holds options of `submitit.AutoExecutor.update_parameters`,
            and `cluster`: null for SLURM where it is installed and processes of this machine elsewhere, or `local`.
        predict: function of a module that predicts in a job, by a configuration as YAML.

    Raises:
        ConfigError: submitit is not installed, or an option of a job is wrong.
        DataError: all jobs have ended, and the output is not complete.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("volume.job.executor=submitit needs submitit: pip install 'seewhy[sweep]'") from error
    console, parts = Console(highlight=False), int(config.volume.job.num_parts)
    options = to_plain_data(config.volume.job.submitit) or {}
    folder = _log_folder(config)
    executor = _make_executor(submitit, options, folder)
    with executor.batch():
        jobs = [executor.submit(predict, _to_yaml(config, part)) for part in range(parts)]
    console.print(f"{parts} jobs ({', '.join(job.job_id for job in jobs)}), logs in {folder}", soft_wrap=True)
    try:
        _watch(jobs, console)
    except KeyboardInterrupt:
        console.print("no longer watching; the jobs go on, and the same command shows the result")
        raise
    failed = [job for job in jobs if job.state.upper().split()[0] in FAILED or job.exception() is not None]
    for job in failed:
        console.print(f"job {job.job_id} ended early: {job.paths.stderr}", soft_wrap=True)
    if len(failed) == len(jobs) or not _is_finished(config):
        reason = _last_line(failed[0].paths.stderr) if failed else "no job says why"
        raise DataError(
            f"{config.volume.output} is not complete, {len(failed)} of {len(jobs)} jobs ended early ({reason}); "
            "start the same command again to continue"
        )
    console.print(f"output: {config.volume.output}", soft_wrap=True)


def _to_yaml(config: DictConfig, part: int) -> str:
    """Configuration of one job, which predicts itself."""
    job = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    job.volume.job.executor = None
    job.volume.job.part_id = part
    job.trainer.enable_progress_bar = False  # logs are files
    return OmegaConf.to_yaml(job)


def _make_executor(submitit: Any, options: dict[str, Any], folder: Path) -> Any:
    """An executor with the options of the jobs."""
    cluster = options.pop("cluster", None)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": "seewhy-volume", "timeout_min": 24 * 60, **options})
    except Exception as error:  # submitit raises errors of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"volume.job.submitit: {reason}; expected options of submitit's AutoExecutor, e.g. "
            "{slurm_partition: gpu, timeout_min: 240, gpus_per_node: 1}"
        ) from error
    return executor


def _log_folder(config: DictConfig) -> Path:
    """Folder of the jobs' logs, next to a local output."""
    local = local_folder(str(config.volume.output))
    if local is None and config.volume.job.ledger is None:
        raise ConfigError(f"volume.job.ledger must be given for {config.volume.output}: a folder that all jobs see")
    folder = Path(config.volume.job.ledger) if local is None else local.with_name(f"{local.name}.jobs")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def _is_finished(config: DictConfig) -> bool:
    """Whether the output is complete."""
    from seewhy.run.volumes.output_file import choose_output
    from seewhy.volumes.stored_logits import LogitStore

    target = choose_output(str(config.volume.output), overwrite=True)
    if config.volume.job.keep_logits:
        return LogitStore(target.store).finished
    return open_sink(target.store, options=to_plain_data(config.volume.storage_options)).finished


def _last_line(path: Path) -> str:
    """Last line of a log, which names the error."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else f"see {path}"
