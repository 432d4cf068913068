"""Send pictures and tables to those loggers of the Trainer that can show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.mlflow import MLFlowLogger
from numpy.typing import NDArray

__all__ = ["find_step", "log_image", "log_table", "takes_images", "takes_tables"]


def find_step(trainer: Trainer) -> int:
    """The step that the Trainer logs scores at now: batches so far, whatever the number of optimizers."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def takes_images(loggers: Iterable[Logger]) -> bool:
    """Whether any of the loggers shows pictures; without one, none need be drawn."""
    return any(isinstance(logger, (TensorBoardLogger, WandbLogger, MLFlowLogger)) for logger in loggers)


def log_image(loggers: Iterable[Logger], name: str, image: NDArray[np.uint8], step: int, *, caption: str = "") -> None:
    """Send one picture to TensorBoard, W&B and MLflow; other loggers store only numbers.

    Args:
        loggers: the Trainer's loggers.
        name: e.g. `val/panel`.
        image: [H, W, 3] uint8.
        step: see `find_step`.
        caption: what the picture shows; empty for none.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")
            if caption:
                logger.experiment.add_text(f"{name}/caption", caption, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [image], step=step, caption=[caption or None])
        elif isinstance(logger, MLFlowLogger):
            file = f"{name.replace('/', '_')}_{step:07d}"
            logger.experiment.log_image(logger.run_id, image, f"pictures/{file}.png")
            if caption:
                logger.experiment.log_text(logger.run_id, caption, f"pictures/{file}.txt")


def takes_tables(loggers: Iterable[Logger]) -> bool:
    """Whether any of the loggers shows tables."""
    return any(isinstance(logger, (WandbLogger, MLFlowLogger)) for logger in loggers)


def log_table(loggers: Iterable[Logger], name: str, rows: Sequence[Mapping[str, Any]], *, step: int = 0) -> None:
    """Send one table to W&B, and without its pictures to MLflow; the other loggers show no tables.

    Args:
        loggers: the Trainer's loggers.
        name: e.g. `explanations`.
        rows: one mapping per row, column → a number, text, None, or a picture [H, W, 3] uint8; the table has the
            columns of all rows.
        step: see `find_step`.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            # A W&B column has one type, so a column of numbers and text becomes text.
            mixed = {name for name in columns if len({_kind(row[name]) for row in rows if name in row} - {None}) > 1}
            data = [[_make_cell(row.get(name), wandb.Image, as_text=name in mixed) for name in columns] for row in rows]
            logger.log_table(name, columns=columns, data=data, step=step)
        elif isinstance(logger, MLFlowLogger):
            plain = [name for name in columns if not any(isinstance(row.get(name), np.ndarray) for row in rows)]
            table = {"columns": plain, "data": [[row.get(name) for name in plain] for row in rows]}
            logger.experiment.log_dict(logger.run_id, table, f"tables/{name.replace('/', '_')}.json")


def _kind(value: Any) -> str | None:
    """Type of a cell in a W&B table; None for an empty cell."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return "image"
    return "number" if isinstance(value, (int, float)) else "text"


def _make_cell(value: Any, image: Any, *, as_text: bool) -> Any:
    if isinstance(value, np.ndarray):
        return image(value)
    return str(value) if as_text and value is not None else value
