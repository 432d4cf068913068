"""Explain a trained run, and write the maps that its model predicts."""

from __future__ import annotations

from omegaconf import DictConfig

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.maps import WriteMaps
from seewhy.errors import ConfigError
from seewhy.run.checks import check_config
from seewhy.run.explainers import build_explain_callback, build_map_writers, find_explanation_folder, print_explained
from seewhy.run.run_loader import load_run
from seewhy.run.tracking.contents import log_job
from seewhy.run.tracking.session import track_job

__all__ = ["explain"]


def explain(config: DictConfig) -> None:
    """Explain the samples of `data.predict_on` by `explain.methods`, and write the model's own maps.

    With `volume.input` a region of that volume is explained instead.

    Raises:
        ConfigError: nothing to do, or invalid options.
    """
    if config.explain is None:
        raise ConfigError("explain is not chosen in this run; choose one, e.g. explain=default")
    is_volume = config.volume.input is not None
    groups = ("volume", "trainer") if is_volume else ("data", "model", "callbacks", "trainer", "logger")
    check_config(config, "explain", *groups)
    if is_volume:
        from seewhy.run.volumes.explain import explain_volume

        explain_volume(config)
        return
    writers: list[ExplainCallback | WriteMaps] = []
    writers += build_explain_callback(config, after_fit=False, after_predict=True)  # type: ignore[arg-type]
    writers += build_map_writers(config)
    if not writers:
        raise ConfigError("nothing to explain: choose methods, e.g. explain.methods=[grad_cam]")
    run = load_run(config, *writers)
    for writer in writers:
        writer.checkpoint = run.checkpoint
        choice = writer.settings.choice() if isinstance(writer, ExplainCallback) else None
        if len(writers) == 1 and choice is not None and not choice.needs_predictions:
            run.datamodule.only = set(choice.by_name(run.datamodule.sample_ids("predict")))
    with track_job(config, run, job="explain") as session:
        run.trainer.predict(run.model, run.datamodule, return_predictions=False)
        log_job(session, run, job="explain", written=find_explanation_folder(config))
    print_explained(run.trainer)
