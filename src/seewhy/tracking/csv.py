"""metrics.csv at the top of the run folder; a resumed run continues it instead of deleting it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

__all__ = ["MetricsCSV", "drop_rows_from"]


class _AppendingWriter(_ExperimentWriter):
    """Lightning's writer, which would delete the file of an earlier run in the same folder."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = list(csv.DictReader(file).fieldnames or [])

    def _check_log_dir_exists(self) -> None:
        """Keep what is there."""


class MetricsCSV(CSVLogger):
    """Every logged scalar as a row of `<folder>/metrics.csv`.

    Args:
        folder: the run folder.
        flush_logs_every_n_steps: rows between two writes to disk.
    """

    def __init__(self, folder: str, *, flush_logs_every_n_steps: int = 50) -> None:
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """The writer, made at first use."""
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(self.log_dir)
        return self._experiment

    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: `config.yaml` holds the whole configuration."""


def drop_rows_from(path: Path, step: int) -> None:
    """Remove the rows of `metrics.csv` at or past a step, which a resumed run will write again."""
    if not path.is_file():
        return
    from seewhy.io.atomic import atomic_path

    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(float(row["step"])) < step]
        names = list(reader.fieldnames or [])
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
