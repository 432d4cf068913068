"""`metrics.csv` of a run, which a continued training appends to."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from seewhy.errors import DataError
from seewhy.io.atomic import write_csv
from seewhy.io.checks.sizes import has_file
from seewhy.io.documents import read_csv
from seewhy.tracking.run import RunResults, TrackedRun

__all__ = ["MetricsCSV", "drop_rows_from"]


class _AppendingWriter(_ExperimentWriter):
    """Lightning's writer, without deleting or damaging the file of an earlier run in the same folder."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if has_file(path):
            self.metrics_keys = read_csv(path).columns

    def _check_log_dir_exists(self) -> None:
        """Keep existing files."""

    def save(self) -> None:
        """Append the rows in one write; new columns replace the file atomically, so that a kill loses no rows."""
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        exists = has_file(path)
        if self._record_new_keys() or not exists:
            rows: list[Mapping[str, Any]] = [*(read_csv(path).rows if exists else ()), *self.metrics]
            filled = [{key: row.get(key, "") for key in self.metrics_keys} for row in rows]
            write_csv(path, filled, columns=self.metrics_keys)
        else:
            text = io.StringIO()
            csv.DictWriter(text, self.metrics_keys, lineterminator="\n").writerows(self.metrics)
            with path.open("ab", buffering=0) as file:
                file.write(text.getvalue().encode())
        self.metrics = []


class MetricsCSV(CSVLogger):
    """Writes logged scalars to `<folder>/metrics.csv`; a resumed run appends to it.

    Args:
        folder: the run folder.
        flush_logs_every_n_steps: number of rows between two writes to disk.
    """

    key = "csv"

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

    def begin_run(self, run: TrackedRun) -> Mapping[str, Any]:
        """Do nothing: configuration, tags and notes are files of the run folder."""
        return {}

    def rewind(self, step: int) -> None:
        """Remove the rows from a step on."""
        drop_rows_from(Path(self.log_dir) / "metrics.csv", step)

    def log_results(self, results: RunResults) -> None:
        """Do nothing: results, tables and figures are files of the run folder."""

    def close(self, status: str) -> str | None:
        """Write the rows that are left."""
        self.finalize(status)
        return None


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
