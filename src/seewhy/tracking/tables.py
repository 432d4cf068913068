"""One call that puts a table with pictures into W&B, which alone of the trackers shows such tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger

__all__ = ["log_table", "takes_tables"]


def takes_tables(loggers: Iterable[Logger]) -> bool:
    """Whether any of the loggers shows tables, so that none is made for nothing."""
    return any(isinstance(logger, WandbLogger) for logger in loggers)


def log_table(loggers: Iterable[Logger], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Send one table.

    Args:
        loggers: the Trainer's loggers.
        name: e.g. `explanations`.
        rows: one mapping per row, column → a number, text, None, or a picture [H, W, 3] uint8; the columns are
            those of all rows together.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            def cell(value: Any, image: Any = wandb.Image) -> Any:
                return image(value) if isinstance(value, np.ndarray) else value

            data = [[cell(row.get(column)) for column in columns] for row in rows]
            logger.log_table(name, columns=columns, data=data)
