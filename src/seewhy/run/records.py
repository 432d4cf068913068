"""Read what a finished run recorded of itself: its scores and its overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from seewhy.errors import DataError
from seewhy.io.documents import read_json
from seewhy.wording import LESION, TargetWords

__all__ = ["Results", "SavedTable", "SavedWords", "find_words_of", "read_overrides", "read_results"]


class SavedTable(TypedDict):
    """A table of texts for the report, which a model adds to its results."""

    columns: list[str]
    rows: list[list[str]]
    caption: str
    quiet: list[bool]


class SavedWords(TypedDict):
    """Words of the data set, see `seewhy.wording.TargetWords`."""

    target: str
    absent: str


class Results(TypedDict):
    """The entries of `results.json` that later commands read."""

    metrics: dict[str, float]
    name: NotRequired[str]
    choice: NotRequired[str]
    checkpoint: NotRequired[str | None]
    versions: NotRequired[dict[str, str]]
    written: NotRequired[str]
    run: NotRequired[str]
    predicted: NotRequired[str]
    warnings: NotRequired[list[str]]
    words: NotRequired[SavedWords]
    tables: NotRequired[list[SavedTable]]
    pictures: NotRequired[dict[str, str]]
    phantom: NotRequired[bool]
    seed: NotRequired[int]
    objective: NotRequired[float | None]
    objective_name: NotRequired[str | None]
    chosen_by: NotRequired[str | None]


def read_results(run: Path) -> dict[str, Any]:
    """Read `results.json` of a run.

    Raises:
        DataError: the file is missing, damaged, or has other types.
    """
    results: dict[str, Any] = read_json(run / "results.json", Results)
    return results


def find_words_of(results: Mapping[str, Any]) -> TargetWords:
    """Words of the data set in the results of a run; those of lesions if there are none.

    Example:
        >>> find_words_of({"words": {"target": "atrium", "absent": "atrium-free"}}).target
        'atrium'
    """
    return TargetWords(**results.get("words", asdict(LESION)))


def read_overrides(run: Path) -> dict[str, str]:
    """Read the overrides of a run, option → value; empty if they were not recorded.

    Left out are options of Hydra, and the checkpoint from which an interrupted run has continued itself.

    Raises:
        DataError: the file is not a list of overrides.
        ConfigError: it is not YAML.
    """
    from seewhy.run.saved_config import load_plain_yaml

    path = run / ".hydra" / "overrides.yaml"
    if not path.exists():
        return {}
    words: Any = load_plain_yaml(path)
    if not isinstance(words, list):
        raise DataError(f"{path} is not a list of overrides; delete the folder of this run, or run it again")
    pairs = (str(word).lstrip("+").split("=", 1) for word in words if "=" in str(word))
    kept = {key: value for key, value in pairs if not key.startswith("hydra.")}
    if kept.get("ckpt_path") == "last" or kept.get("ckpt_path", "").strip("'").startswith(f"{run.absolute()}/"):
        del kept["ckpt_path"]
    return kept
