"""Predict with a trained run."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.predictions import WritePredictions
from seewhy.callbacks.scores import ScorePredictions
from seewhy.errors import ConfigError
from seewhy.io.atomic import list_files
from seewhy.run.build import build_loggers
from seewhy.run.checks import check_config
from seewhy.run.executor import print_output
from seewhy.run.explanations.explainers import build_explain_callback, check_explained, print_explained
from seewhy.run.figure_files import with_figure_options
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.saved_run import SavedRun, load_run
from seewhy.run.pages.folder_pages import write_prediction_results
from seewhy.run.processes.sharing import read_sharing_options, share_prediction, submit_shared
from seewhy.run.tracking.contents import log_job, log_volume
from seewhy.run.tracking.session import track_job

__all__ = ["predict"]


@with_figure_options
def predict(config: DictConfig) -> None:
    """Predict the samples of `data.predict_on`, or the volume of `volume.input`, and print what was written.

    With `job.shared=true` the samples are shared with all processes that start the same command;
    `job.executor=submitit` starts several.

    Raises:
        ConfigError: invalid options.
    """
    is_volume = config.volume.input is not None or config.volume.output is not None
    groups = ("volume",) if is_volume else ("explain", "data", "model", "callbacks")
    check_config(config, *groups, "job", "trainer", "logger")
    job = read_sharing_options(config)
    if is_volume:
        if job.is_used:
            raise ConfigError(
                "job.shared and job.executor share the samples of a data set; a volume is shared by starting the same "
                "command several times, or by volume.job.executor=submitit"
            )
        _predict_volume(config)
        return
    writers = build_explain_callback(config, after_fit=False)
    if job.is_used and writers:
        raise ConfigError(
            "job.shared and job.executor cannot share explain.after_predict=true; set it to false, and share the "
            "explanations by explain.py"
        )
    folder = _find_folder(config)
    if job.executor is not None:
        submit_shared(config, predict, job, name="seewhy-predict", output=folder)
        print_output(folder)
        return
    run = load_run(config, *writers)
    check_explained(run.trainer.callbacks, run.model, run.datamodule, ["predict"])  # type: ignore[attr-defined]
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ExplainCallback):
            callback.checkpoint = run.checkpoint
    sharers = share_prediction(config, run, job, folder=folder)
    with track_job(config, run.trainer.loggers, run.folder, job="predict") as session, sharers:
        run.trainer.predict(run.model, run.datamodule, return_predictions=False)
        pages = _write_page(config, run)
        log_job(session, run, job="predict", written=_list_tables(run.trainer))
    print_explained(run.trainer)
    if not run.trainer.is_global_zero:
        return
    console = Console()
    for writer in run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(writer, WritePredictions):
            for line in writer.summary():
                console.print(line, soft_wrap=True)
    for page in pages:
        console.print(f"report: {page}", highlight=False, soft_wrap=True)


def _find_folder(config: DictConfig) -> Path:
    """Folder of the predictions."""
    folder = OmegaConf.select(config, "callbacks.predictions.folder")
    return Path(config.paths.output_dir) / "predictions" if folder is None else Path(folder)


def _write_page(config: DictConfig, run: SavedRun) -> list[Path]:
    """Write scores and page next to the predictions, on the first process."""
    callbacks = run.trainer.callbacks  # type: ignore[attr-defined]
    scored = next((item for item in callbacks if isinstance(item, ScorePredictions)), None)
    writer = next((item for item in callbacks if isinstance(item, WritePredictions)), None)
    if scored is None or writer is None or not run.trainer.is_global_zero:
        return []
    return [write_prediction_results(writer.folder, run, scored.scores, scored.rows, name=config.name)]


def _predict_volume(config: DictConfig) -> None:
    """Predict one volume; loggers show which, where it is, and the model of the run."""
    from seewhy.run.volumes.predict import predict_volume

    folder = RunFolder(config.run)
    with track_job(config, build_loggers(config.logger), folder, job="predict") as session:
        predict_volume(config)
        row = {"input": str(config.volume.input), "output": str(config.volume.output), "run": str(config.run)}
        log_volume(session, folder, row)


def _list_tables(trainer: Trainer) -> list[Path]:
    """The tables that the writers of predictions have written."""
    writers = [item for item in trainer.callbacks if isinstance(item, WritePredictions)]  # type: ignore[attr-defined]
    return [path for writer in writers for path in list_files(writer.folder, "*.csv")]
