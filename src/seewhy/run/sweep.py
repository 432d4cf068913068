"""One table over the members of a sweep."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

__all__ = ["SweepTable", "sweep_rows"]

LOGGER = logging.getLogger(__name__)


class SweepTable(Callback):
    """Hydra callback: after the last member, write `sweep.csv` and print it."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collect the members below the sweep's folder."""
        folder = Path(str(config.hydra.sweep.dir))
        rows = sweep_rows(folder)
        if not rows:
            return
        path = _write(rows, folder / "sweep.csv")
        _print(rows, path)


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


def _write(rows: list[dict[str, Any]], path: Path) -> Path:
    import pandas as pd

    from seewhy.io.atomic import atomic_path

    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return path


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
        table.add_column(key, overflow="fold")
    for row in rows:
        cells = (row.get(key, "") for key in choices + metrics[:8])
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)
