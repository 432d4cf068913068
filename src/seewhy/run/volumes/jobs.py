"""Jobs that predict one volume together: `volume.job.executor=submitit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from seewhy.errors import ConfigError
from seewhy.io.zarr.sink import open_sink
from seewhy.io.zarr.store import local_folder
from seewhy.run.build import to_plain_data
from seewhy.run.executor import configure_job, print_output, submit_jobs

__all__ = ["submit_prediction"]


def submit_prediction(config: DictConfig, predict: Callable[[DictConfig], None]) -> None:
    """Submit `volume.job.num_parts` jobs that run this prediction, and wait until all have ended.

    Args:
        config: of the command.
        predict: function of a module that predicts in a job.

    Raises:
        SeewhyError: as `submit_jobs`.
    """
    submit_jobs(
        predict,
        [_configure_part(config, part) for part in range(int(config.volume.job.num_parts))],
        options=to_plain_data(config.volume.job.submitit) or {},
        where="volume.job",
        name="seewhy-volume",
        folder=_choose_log_folder(config),
        output=str(config.volume.output),
        is_complete=lambda: _is_finished(config),
    )
    print_output(config.volume.output)


def _configure_part(config: DictConfig, part: int) -> DictConfig:
    """Configuration of one job, which predicts itself."""
    job = configure_job(config)
    job.volume.job.executor = None
    job.volume.job.part_id = part
    return job


def _choose_log_folder(config: DictConfig) -> Path:
    """Folder of the jobs' logs, next to a local output."""
    local = local_folder(str(config.volume.output))
    if local is None and config.volume.job.ledger is None:
        raise ConfigError(f"volume.job.ledger must be given for {config.volume.output}: a folder that all jobs see")
    return Path(config.volume.job.ledger) if local is None else local.with_name(f"{local.name}.jobs")


def _is_finished(config: DictConfig) -> bool:
    """Whether the output is complete."""
    from seewhy.run.volumes.output_file import choose_output
    from seewhy.volumes.stored_logits import LogitStore

    target = choose_output(str(config.volume.output), overwrite=True)
    if config.volume.job.keep_logits:
        return LogitStore(target.store).finished
    return open_sink(target.store, options=to_plain_data(config.volume.storage_options)).finished
