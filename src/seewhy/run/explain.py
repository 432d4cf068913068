"""The maps of a trained run, drawn again."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from rich.console import Console

from seewhy.run.build import build
from seewhy.run.saved import restore

__all__ = ["explain"]


def explain(config: DictConfig) -> None:
    """Write the maps of the samples of `data.predict_on` with the writer described by `explain`."""
    writer = build(config.explain, "explain")
    run = restore(config, writer)
    writer.checkpoint = run.checkpoint
    run.trainer.predict(run.model, run.datamodule, return_predictions=False)
    written = int(run.trainer.strategy.reduce(torch.tensor(writer.written), reduce_op="sum"))
    if run.trainer.is_global_zero:
        Console().print(f"{written} samples: {writer.folder / 'attention_maps'}, {writer.folder / 'cam_npy'}")
