"""One table over the members of a sweep."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

__all__ = ["SweepTable", "sweep_rows"]


class SweepTable(Callback):
    """Hydra callback: `sweep.csv` grows with every member that ends, and is printed after the last one.

    Hydra runs the members that follow a failed one, but skips what comes after the last; so the table is there
    even then.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Bring the table up to date, when this job is part of a sweep."""
        if config.hydra.mode is RunMode.MULTIRUN:
            _write(Path(str(config.hydra.sweep.dir)))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table, and the one result over all folds where folds were swept."""
        folder = Path(str(config.hydra.sweep.dir))
        rows = _write(folder)
        if rows:
            _print(rows, folder / "sweep.csv")
        if len({row.get("data.fold") for row in rows}) > 1:
            _pool(folder)


def sweep_rows(folder: Path) -> list[dict[str, Any]]:
    """One row per member that finished: its number, its overrides, its metrics; in order of number."""
    rows = []
    for results in folder.glob("*/results.json"):
        record = json.loads(results.read_text())
        overrides = OmegaConf.load(results.parent / ".hydra" / "overrides.yaml")
        choices = dict(str(word).lstrip("+").split("=", 1) for word in overrides if "=" in str(word))
        swept = {key: value for key, value in choices.items() if not key.startswith("hydra.")}
        rows.append({"member": results.parent.name, **swept, **record["metrics"]})
    return sorted(rows, key=lambda row: (not row["member"].isdigit(), row["member"].zfill(8)))


def _write(folder: Path) -> list[dict[str, Any]]:
    """Write the table of the members so far; returns its rows."""
    from seewhy.io.atomic import write_csv

    rows = sweep_rows(folder)
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        write_csv(folder / "sweep.csv", [{key: row.get(key, "") for key in columns} for row in rows], columns=columns)
    return rows


def _pool(folder: Path) -> None:
    """Pool the folds of a classification; a sweep that is none is no error here."""
    from seewhy.errors import SeewhyError
    from seewhy.run.sweeps.pooling import pool_folds, read_members, say_pooled

    try:
        if read_members(folder):
            say_pooled(pool_folds(folder), folder)
    except SeewhyError as error:
        logging.getLogger(__name__).warning("the folds are not pooled: %s", error)


def _print(rows: list[dict[str, Any]], path: Path) -> None:
    """Show what varied and the headline metrics."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(key for row in rows for key in row))
    varied = [key for key in columns if len({str(row.get(key)) for row in rows}) > 1]
    metrics = [key for key in varied if key.startswith("test/") and key.endswith(("/dice", "/auprc", "auroc"))]
    choices = [key for key in varied if "/" not in key]
    table = Table(title=f"{len(rows)} members", caption=str(path))
    for key in choices + metrics[:8]:
        table.add_column(key.removeprefix("test/").replace("/", "\n"), overflow="fold")
    for row in rows:
        cells = (row.get(key, "") for key in choices + metrics[:8])
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)
