"""State of a sweep's member in its folder: complete, pruned or failed; and the plugin of Hydra that runs members."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.documents import read_json
from seewhy.options import parse_options
from seewhy.run.records import read_results

__all__ = ["MemberState", "Sweeper", "read_state", "read_sweeper_options", "write_state"]

T = TypeVar("T")

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


class Sweeper(Protocol):
    """What a search or a benchmark asks of its plugin."""

    options: dict[str, Any]
    config: Any
    hydra_context: Any

    def build_launcher(self) -> Launcher:
        """Build the launcher of the members."""

    def check_members(self, members: Sequence[Sequence[str]]) -> None:
        """Compose the configurations of members, which raises Hydra's errors about wrong options."""


def read_sweeper_options(kind: type[T], options: Mapping[str, Any] | DictConfig) -> T:
    """Read `hydra.sweeper` as a dataclass; Hydra's own keys are left out.

    Raises:
        ConfigError: unknown options and wrong values.
    """
    node = options if isinstance(options, DictConfig) else OmegaConf.create(dict(options))
    plain: Any = OmegaConf.to_container(node, resolve=True)
    given = {key: value for key, value in plain.items() if not key.startswith("_")}
    return parse_options(kind, given, where="hydra.sweeper")
