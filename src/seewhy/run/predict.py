"""Predict with a trained run."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.predictions import WritePredictions
from seewhy.run.checks.options import check_config
from seewhy.run.explainers import build_explain_callback, check_explained, print_explained
from seewhy.run.run_loader import load_run

__all__ = ["predict"]


def predict(config: DictConfig) -> None:
    """Predict the samples of `data.predict_on`, or the volume of `volume.input`, and print what was written."""
    is_volume = config.volume.input is not None or config.volume.output is not None
    check_config(
        config,
        *(("volume", "trainer") if is_volume else ("explain", "data", "model", "callbacks", "trainer", "logger")),
    )
    if is_volume:
        from seewhy.run.volumes.predict import predict_volume

        predict_volume(config)
        return
    run = load_run(config, *build_explain_callback(config, after_fit=False))
    check_explained(run.trainer.callbacks, run.model, run.datamodule, ["predict"])  # type: ignore[attr-defined]
    for callback in run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ExplainCallback):
            callback.checkpoint = run.checkpoint
    run.trainer.predict(run.model, run.datamodule, return_predictions=False)
    print_explained(run.trainer)
    if not run.trainer.is_global_zero:
        return
    console = Console()
    for writer in run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(writer, WritePredictions):
            for line in writer.summary():
                console.print(line)
