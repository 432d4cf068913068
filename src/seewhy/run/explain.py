"""The explanations of a trained run, and the maps that its model predicts."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig
from rich.console import Console

from seewhy.callbacks.explain import ExplainCallback
from seewhy.callbacks.maps import WriteMaps
from seewhy.errors import ConfigError
from seewhy.reporting.report import print_explanations
from seewhy.run.explainers import build_explain_callback, build_own_maps
from seewhy.run.run_loader import load_run

__all__ = ["explain", "say_explained"]


def explain(config: DictConfig) -> None:
    """Explain the samples of `data.predict_on` by `explain.methods`, and write the model's own maps.

    With `volume.input` a region of that volume is explained instead.
    """
    if config.explain is None:
        raise ConfigError("this run says nothing of explanations; choose some, e.g. explain=default")
    if config.volume.input is not None:
        from seewhy.run.volumes.explain import explain_volume

        explain_volume(config)
        return
    writers: list[ExplainCallback | WriteMaps] = []
    writers += build_explain_callback(config, after_fit=False, after_predict=True)  # type: ignore[arg-type]
    writers += build_own_maps(config)
    if not writers:
        raise ConfigError("nothing to make: name explainers, e.g. explain.methods=[grad_cam]")
    run = load_run(config, *writers)
    for writer in writers:
        writer.checkpoint = run.checkpoint
        choice = writer.settings.choice() if isinstance(writer, ExplainCallback) else None
        if len(writers) == 1 and choice is not None and not choice.needs_predictions:
            run.datamodule.only = set(choice.by_name(run.datamodule.sample_ids("predict")))
    run.trainer.predict(run.model, run.datamodule, return_predictions=False)
    say_explained(run.trainer)


def say_explained(trainer: Trainer) -> None:
    """Say what was written, on the first process; every process must call this."""
    console = Console()
    for writer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(writer, WriteMaps) and writer.checkpoint is not None:
            written = int(trainer.strategy.reduce(torch.tensor(writer.written), reduce_op="sum"))
            if trainer.is_global_zero:
                folders = f"{writer.folder / 'attention_maps'}, {writer.folder / 'cam_npy'}"
                console.print(f"the model's own maps of {written} samples: {folders}")
        if isinstance(writer, ExplainCallback) and writer.results:
            print_explanations(writer.results, console)
