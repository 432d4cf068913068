"""Table of the members of a sweep: settings, seed, state, validation objective and test scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from seewhy.errors import DataError, SeewhyError
from seewhy.io.atomic import write_csv
from seewhy.run.records import read_overrides, read_results
from seewhy.run.sweeps.member_state import MemberState, read_state, write_state

__all__ = ["COLUMNS", "REPLICATES", "SweepTable", "find_varied", "setting_of", "sweep_rows", "write_table"]

COLUMNS = ("member", "state", "error", "objective", "objective_name", "pruned_at", "pruned_in_epoch")
"""Columns that are neither options nor scores."""
REPLICATES = ("seed", "data.fold")
"""Options whose values are repetitions of one setting."""


class SweepTable(Callback):
    """Hydra callback that records how a member ended, and writes `sweep.csv` after every member."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Update the table if this job is part of a sweep."""
        if config.hydra.mode is not RunMode.MULTIRUN:
            return
        folder = Path(str(config.hydra.runtime.output_dir))
        pruned = (state := read_state(folder)) is not None and state.state == "PRUNED"
        if not pruned:
            write_state(folder, _find_state(job_return))
        write_table(folder.parent)


def _find_state(job: JobReturn) -> MemberState:
    """Find how a job ended."""
    if job.status is JobStatus.COMPLETED:
        return MemberState("COMPLETE")
    error = job._return_value
    text = str(error.__cause__ or error) if isinstance(error, SeewhyError) else f"{type(error).__name__}: {error}"
    if not isinstance(error, SeewhyError):
        logging.getLogger(__name__).error("a member failed", exc_info=error)
    return MemberState("FAIL", error=text)


def sweep_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row per member, in order of its number: number, state, options and scores.

    A member without `member.json` and `results.json` has not ended: it is `RUNNING`, or its process has died.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from seewhy.run.sweeps.table import sweep_rows
        >>> run = Path("sweep/0")
        >>> (run / ".hydra").mkdir(parents=True)
        >>> _ = (run / "results.json").write_text(json.dumps({"metrics": {"test/auroc": 0.75}}))
        >>> _ = (run / ".hydra" / "overrides.yaml").write_text("[seed=1]")
        >>> sweep_rows(Path("sweep"))
        [{'member': '0', 'state': 'COMPLETE', 'seed': '1', 'test/auroc': 0.75}]
    """
    runs = {path.parent for name in ("results.json", ".hydra", "member.json") for path in folder.glob(f"*/{name}")}
    rows = [_read_row(run) for run in runs]
    return sorted(rows, key=lambda row: (not row["member"].isdigit(), row["member"].zfill(8)))


def _read_row(run: Path) -> dict[str, Any]:
    """Read the row of a member."""
    state, has_results = read_state(run), (run / "results.json").is_file()
    row: dict[str, Any] = {"member": run.name, "state": "COMPLETE" if has_results else "RUNNING"}
    row |= {} if state is None else {"state": state.state}
    row |= read_overrides(run)
    if state is not None and state.state == "PRUNED":
        return row if state.value is None else {**row, "pruned_at": state.value, "pruned_in_epoch": state.epoch}
    if state is not None and state.state == "FAIL":
        return {**row, "error": state.error or ""}
    if not has_results or row["state"] != "COMPLETE":
        return row
    results = read_results(run)
    if results.get("seed") is not None:
        row.setdefault("seed", str(results["seed"]))
    scores = results["metrics"]
    name = results.get("objective_name") or results.get("chosen_by")
    if name in scores:
        row |= {"objective": scores[name], "objective_name": name}
    parts = ("test/", "val/", "")
    return {**row, **{score: scores[score] for part in parts for score in scores if score.startswith(part)}}


def find_varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the options that differ between members, in the order of the command line.

    Example:
        >>> from seewhy.run.sweeps.table import find_varied
        >>> find_varied([{"member": "0", "seed": "1", "name": "x"}, {"member": "1", "seed": "2", "name": "x"}])
        ['seed']
    """
    names = dict.fromkeys(key for row in rows for key in row)
    known = {name: {str(row[name]) for row in rows if name in row} for name in names}
    scores = {key for row in rows for key, value in row.items() if isinstance(value, float)}
    return [name for name in names if name not in {*COLUMNS, *scores} and "/" not in name and len(known[name]) > 1]


def setting_of(row: Mapping[str, Any], varied: Sequence[str]) -> tuple[str, ...]:
    """Return the values of the varied options of a row, without repetitions by seed or fold."""
    return tuple(str(row.get(name, "")) for name in varied if name not in REPLICATES)


def write_table(folder: Path) -> list[dict[str, Any]]:
    """Write `sweep.csv` of the members so far, and return its rows.

    Raises:
        DataError: files of members that are damaged.
    """
    try:
        rows = sweep_rows(folder)
    except DataError as error:
        raise DataError(error.problems, where=f"{folder}: no sweep.csv") from error
    if rows:
        present = list(dict.fromkeys(key for row in rows for key in row if key != "error"))
        first = ["member", "state", "objective", "objective_name", "seed", *find_varied(rows)]
        scores = [name for part in ("test/", "val/") for name in present if name.startswith(part)]
        columns = list(dict.fromkeys([*(name for name in first if name in present), *scores, *present]))
        columns += ["error"] * any("error" in row for row in rows)
        write_csv(folder / "sweep.csv", rows, columns=columns)
    return rows
