"""State of a sweep's member in its folder: complete, pruned or failed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.documents import read_json
from seewhy.run.records import read_results

__all__ = ["MemberState", "read_state", "write_state"]

STATE = "member.json"
"""File in the folder of a member that says how it ended."""


@dataclass(frozen=True)
class MemberState:
    """How a member of a sweep ended.

    Attributes:
        state: as Optuna names it.
        error: message of a failed member.
        epoch: last epoch of a pruned member.
        value: of the objective in that epoch.
        values: of the objectives of a complete member.
    """

    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    error: str | None = None
    epoch: int | None = None
    value: float | None = None
    values: tuple[float, ...] = ()


def write_state(folder: Path, state: MemberState) -> None:
    """Write `member.json`."""
    record = {"state": state.state, "error": state.error, "epoch": state.epoch, "value": state.value}
    with atomic_path(folder / STATE) as temporary:
        temporary.write_text(json.dumps({key: value for key, value in record.items() if value is not None}) + "\n")


def read_state(folder: Path, objectives: Iterable[str] = ()) -> MemberState | None:
    """Read how a member ended; None if it has not ended.

    Args:
        folder: of the member.
        objectives: names of scores that a complete member must have measured; without one it has failed.

    Raises:
        DataError: `member.json` or `results.json` is damaged.
    """
    if not (folder / STATE).is_file():
        return None
    state: MemberState = read_json(folder / STATE, MemberState)
    if state.state != "COMPLETE" or not (names := list(objectives)):
        return state
    try:
        metrics = read_results(folder)["metrics"]
    except DataError as error:
        return MemberState("FAIL", error=str(error))
    missing = [name for name in names if not math.isfinite(metrics.get(name, math.nan))]
    if missing:
        return MemberState("FAIL", error=f"no finite {', '.join(missing)} was measured")
    return MemberState("COMPLETE", values=tuple(metrics[name] for name in names))
