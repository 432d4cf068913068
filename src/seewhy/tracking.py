"""Experiment trackers: pictures and tables for W&B, TensorBoard and MLflow, and `metrics.csv` that a resume continues.

Only this module distinguishes the loggers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.mlflow import MLFlowLogger
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import write_csv
from seewhy.io.checks.sizes import has_file
from seewhy.io.documents import read_csv

__all__ = ["MetricsCSV", "drop_rows_from", "log_image", "log_table", "takes_images", "takes_tables"]


def takes_images(loggers: Iterable[Logger]) -> bool:
    """Whether any of the loggers shows pictures; without one, none need be drawn."""
    return any(isinstance(logger, (TensorBoardLogger, WandbLogger, MLFlowLogger)) for logger in loggers)


def log_image(loggers: Iterable[Logger], name: str, image: NDArray[np.uint8], step: int) -> None:
    """Send one picture to TensorBoard, W&B and MLflow; other loggers store only numbers.

    Args:
        loggers: the Trainer's loggers.
        name: e.g. `val/panel`.
        image: [H, W, 3] uint8.
        step: optimiser step of the picture.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, image, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [image], step=step)
        elif isinstance(logger, MLFlowLogger):
            file = f"{name.replace('/', '_')}_{step:07d}.png"
            logger.experiment.log_image(logger.run_id, image, file)


def takes_tables(loggers: Iterable[Logger]) -> bool:
    """Whether any of the loggers shows tables."""
    return any(isinstance(logger, WandbLogger) for logger in loggers)


def log_table(loggers: Iterable[Logger], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Send one table to W&B; the other loggers show no tables with pictures.

    Args:
        loggers: the Trainer's loggers.
        name: e.g. `explanations`.
        rows: one mapping per row, column → a number, text, None, or a picture [H, W, 3] uint8; the table has the
            columns of all rows.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            def cell(value: Any, image: Any = wandb.Image) -> Any:
                return image(value) if isinstance(value, np.ndarray) else value

            data = [[cell(row.get(column)) for column in columns] for row in rows]
            logger.log_table(name, columns=columns, data=data)


class _AppendingWriter(_ExperimentWriter):
    """Lightning's writer, without deleting the file of an earlier run in the same folder."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if has_file(path):
            self.metrics_keys = read_csv(path).columns

    def _check_log_dir_exists(self) -> None:
        """Keep existing files."""


class MetricsCSV(CSVLogger):
    """Writes logged scalars to `<folder>/metrics.csv`; a resumed run appends to it.

    Args:
        folder: the run folder.
        flush_logs_every_n_steps: number of rows between two writes to disk.
    """

    def __init__(self, folder: str, *, flush_logs_every_n_steps: int = 50) -> None:
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """The writer, created at first use."""
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(self.log_dir)
        return self._experiment

    def log_hyperparams(self, params: Any = None) -> None:
        """Do nothing: `config.yaml` has the whole configuration."""


def drop_rows_from(path: Path, step: int) -> None:
    r"""Remove the rows of `metrics.csv` from a step on, which a resumed run will write again.

    Raises:
        DataError: the file is damaged.

    Example:
        >>> path = Path("metrics.csv")
        >>> _ = path.write_text("step,loss\n1,0.5\n2,0.4\n")
        >>> drop_rows_from(path, step=2)
        >>> path.read_text().split()
        ['step,loss', '1,0.5']
    """
    if not has_file(path):
        return
    table = read_csv(path)
    rows = []
    for number, row in zip(table.numbers, table.rows, strict=True):
        text = row.get("step", "")
        try:
            earlier = float(text) < step
        except ValueError as error:
            raise DataError(
                f"{path}, row {number}: step {text!r} is not a number; remove the row, or the file"
            ) from error
        rows += [row] if earlier else []
    write_csv(path, rows, columns=table.columns)
