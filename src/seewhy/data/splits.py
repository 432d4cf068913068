"""Who is trained on, who chooses the checkpoint, who is tested: always whole patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seewhy.errors import ConfigError, nearest

__all__ = ["PARTS", "Split", "check_known", "split_by_index", "split_from_file"]

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Three disjoint lists of patients; `val` and `test` may be empty.

    Attributes:
        train: patients to learn from.
        val: patients that choose the checkpoint.
        test: patients for the final score.
        made: how the split came about, as plain data.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    made: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        problems = []
        for part in PARTS:
            for patient in getattr(self, part):
                if patient in seen:
                    where = part if seen[patient] == part else f"{seen[patient]} and {part}"
                    problems.append(f"patient {patient!r} is listed twice (in {where})")
                seen[patient] = part
        if not self.train:
            problems.append("no patient is left for training")
        if problems:
            raise ConfigError("the split is wrong: " + "; ".join(problems))

    @property
    def hash(self) -> str:
        """SHA-256 over who is in which part; the order within a part does not matter."""
        parts = {part: sorted(getattr(self, part)) for part in PARTS}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def part(self, name: str) -> tuple[str, ...]:
        """Patients of `train`, `val` or `test`."""
        if name not in PARTS:
            raise ConfigError(f"data.predict_on={name!r} is unknown; {nearest(name, [*PARTS, 'all'])}")
        return tuple(getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `split.json`."""
        lists: dict[str, Any] = {part: list(getattr(self, part)) for part in PARTS}
        return {"hash": self.hash, "made": self.made, **lists}


def split_from_file(patients: Sequence[str], path: str | Path) -> Split:
    """The split of an earlier run, from its `split.json`.

    Raises:
        ConfigError: no such file, another format, or patients that are not in the data set.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        lists = {part: [str(patient) for patient in stored[part]] for part in PARTS}
    except OSError as error:
        raise ConfigError(f"data.split_file={str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"data.split_file={str(path)!r} is no split: expected JSON with the lists train, val and test"
        ) from error
    check_known(patients, ((f"{path}: {part}", name) for part, names in lists.items() for name in names))
    made = {"by": "file", "file": str(path)}
    split = Split(tuple(lists["train"]), tuple(lists["val"]), tuple(lists["test"]), made)
    if stored.get("hash", split.hash) != split.hash:
        raise ConfigError(
            f"data.split_file={str(path)!r} was edited: its hash is {str(stored['hash'])[:12]}, its lists give "
            f"{split.hash[:12]}; delete the line `hash` if the edit was meant"
        )
    return split


def check_known(patients: Sequence[str], named: Iterable[tuple[str, str]]) -> None:
    """Refuse patients that the data set does not have.

    Args:
        patients: all there are.
        named: pairs (where it was named, patient).

    Raises:
        ConfigError: all unknown ones, each with the nearest known.
    """
    known = set(patients)
    problems = [f"{where}: no patient {name!r}; {nearest(name, known)}" for where, name in named if name not in known]
    if problems:
        raise ConfigError("; ".join(problems))


def split_by_index(names: Sequence[str], patient_of: Callable[[str], str], *, slice_split: Sequence[int]) -> Split:
    """The reference's split by position in the sorted list of files, refused where it would cut a patient.

    `slice_split = [v0, v1]` gives validation `[v0:v1]`, training `[v1:]` and test `[:v0]`. The reference tests
    on `[:v1]`, which contains the validation slices that chose the checkpoint; ours does not.

    Args:
        names: file names; they are sorted by character, as the reference sorts them.
        patient_of: the patient of a file name.
        slice_split: the two positions.

    Raises:
        ConfigError: positions outside the list, or within a patient; the nearest good ones are named.
    """
    ordered = [patient_of(name) for name in sorted(names)]
    if len(slice_split) != 2 or not 0 <= slice_split[0] <= slice_split[1] < len(ordered):
        raise ConfigError(
            f"data.slice_split={list(slice_split)} must be two positions v0 <= v1 below the number of slices "
            f"({len(ordered)})"
        )
    good = _borders(ordered)
    problems = []
    for position in slice_split:
        if position not in good:
            below = max(index for index in good if index < position)
            above = min(index for index in good if index > position)
            problems.append(
                f"position {position} cuts patient {ordered[position]!r}; "
                f"the nearest that cut none are {below} and {above}"
            )
    if problems:
        raise ConfigError(f"data.slice_split={list(slice_split)}: " + "; ".join(problems))
    v0, v1 = slice_split
    train, val, test = (tuple(dict.fromkeys(part)) for part in (ordered[v1:], ordered[v0:v1], ordered[:v0]))
    return Split(train, val, test, {"by": "slice_split", "slice_split": [int(v0), int(v1)]})


def _borders(ordered: Sequence[str]) -> set[int]:
    """Positions with no patient on both sides."""
    last = {patient: index for index, patient in enumerate(ordered)}
    good, reach = {0}, 0
    for index, patient in enumerate(ordered):
        reach = max(reach, last[patient])
        if reach == index:
            good.add(index + 1)
    return good
