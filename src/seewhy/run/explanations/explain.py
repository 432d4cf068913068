"""Explain a trained run, and write the maps that its model predicts."""

from __future__ import annotations

from omegaconf import DictConfig

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.maps import WriteMaps
from seewhy.errors import ConfigError
from seewhy.reporting.selection import list_candidates
from seewhy.run.checks import check_config
from seewhy.run.executor import print_output
from seewhy.run.explanations.explainers import (
    build_explain_callback,
    build_map_writers,
    check_explained,
    find_explanation_folder,
    load_explainer_nodes,
    print_explained,
)
from seewhy.run.figure_files import with_figure_options
from seewhy.run.loaded.saved_run import load_run
from seewhy.run.processes.sharing import SharingOptions, read_sharing_options, submit_shared
from seewhy.run.tracking.contents import log_job
from seewhy.run.tracking.session import track_job

__all__ = ["explain"]


@with_figure_options
def explain(config: DictConfig) -> None:
    """Explain the samples of `data.predict_on` by `explain.methods`, and write the model's own maps.

    With `volume.input` a region of that volume is explained instead. With `job.shared=true` the samples are shared with
    all processes that start the same command; `job.executor=submitit` starts several.

    Raises:
        ConfigError: nothing to do, or invalid options.
    """
    if config.explain is None:
        raise ConfigError("explain is not chosen in this run; choose one, e.g. explain=default")
    is_volume = config.volume.input is not None
    groups = ("volume", "trainer") if is_volume else ("data", "model", "callbacks", "trainer", "logger")
    check_config(config, "explain", "job", *groups)
    if is_volume:
        from seewhy.run.volumes.explain import explain_volume

        explain_volume(config)
        return
    job = read_sharing_options(config)
    if job.executor is not None:
        _submit(config, job)
        return
    writers: list[ExplainCallback | WriteMaps] = []
    lease = job.lease if job.shared else None
    writers += build_explain_callback(config, after_fit=False, after_predict=True, lease=lease)  # type: ignore[arg-type]
    writers += build_map_writers(config)
    if not writers:
        raise ConfigError("nothing to explain: choose methods, e.g. explain.methods=[grad_cam]")
    _check_sharing(config, job)
    run = load_run(config, *writers)
    if job.shared and run.trainer.world_size > 1:
        raise ConfigError("job.shared=true needs processes of their own: trainer.devices=1, trainer.num_nodes=1")
    check_explained(writers, run.model, run.datamodule, ["predict"])
    for writer in writers:
        writer.checkpoint = run.checkpoint
        choice = writer.settings.choice() if isinstance(writer, ExplainCallback) else None
        if len(writers) == 1 and choice is not None and not choice.needs_predictions:
            ids = run.datamodule.sample_ids("predict")
            if choice.ids is None and choice.count > 0:
                ids = list_candidates(ids, run.datamodule.tissue_shares("predict"))
            chosen = choice.by_name(ids)
            run.datamodule.only = set(chosen[:1] if job.shared else chosen)  # shared ones are claimed afterwards
    with track_job(config, run.trainer.loggers, run.folder, job="explain") as session:
        run.trainer.predict(run.model, run.datamodule, return_predictions=False)
        log_job(session, run, job="explain", written=find_explanation_folder(config))
    print_explained(run.trainer)


def _check_sharing(config: DictConfig, job: SharingOptions) -> None:
    """Refuse what processes cannot share."""
    if job.is_used and config.explain.own_maps is not None:
        raise ConfigError(
            "job.shared and job.executor share the maps of explain.methods; the model's own maps are written by one "
            "process: set explain.own_maps=null here, and write them by a call without job"
        )


def _submit(config: DictConfig, job: SharingOptions) -> None:
    """Start jobs that share the samples, and wait until all have ended."""
    _check_sharing(config, job)
    load_explainer_nodes(config.explain)  # mistakes are found here
    output = find_explanation_folder(config) / "explanations"
    submit_shared(config, explain, job, name="seewhy-explain", output=output)
    print_output(output)
