"""One call that puts a picture into whichever loggers a run has."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.mlflow import MLFlowLogger
from numpy.typing import NDArray

__all__ = ["log_image", "takes_images"]


def takes_images(loggers: Iterable[Logger]) -> bool:
    """Whether any of the loggers shows pictures, so that none is drawn for nothing."""
    return any(isinstance(logger, (TensorBoardLogger, WandbLogger, MLFlowLogger)) for logger in loggers)


def log_image(loggers: Iterable[Logger], name: str, image: NDArray[np.uint8], step: int) -> None:
    """Send one picture to TensorBoard, W&B and MLflow; other loggers hold numbers only.

    Args:
        loggers: the Trainer's loggers.
        name: e.g. `val/panel`.
        image: [H, W, 3] uint8.
        step: optimiser step it belongs to.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [image], step=step)
        elif isinstance(logger, MLFlowLogger):
            file = f"{name.replace('/', '_')}_{step:07d}.png"
            logger.experiment.log_image(logger.run_id, image, file)
