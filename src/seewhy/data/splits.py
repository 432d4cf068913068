"""Split patients into train, validation and test.

Every way to split keeps all data of a patient in one part. `choose_split` picks the way that the options of a data set
ask for; the way and its options are recorded in `Split.made`, and a hash identifies the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seewhy.data.assignment import assign_by_fractions, list_scans, shuffle_patients
from seewhy.data.dataset_info import read_split_file
from seewhy.data.patients import find_person, group_scans, report_spellings, warn_of_divided_scans
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.options import check_choice

__all__ = [
    "PARTS",
    "Split",
    "choose_split",
    "split_by_fold",
    "split_by_fractions",
    "split_by_given_folds",
    "split_by_index",
    "split_by_patients",
    "split_from_file",
]

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Three disjoint lists of patients; `val` and `test` may be empty.

    Attributes:
        train: patients to learn from.
        val: patients that choose the checkpoint.
        test: patients for the final score.
        made: how the split was made, as plain data.

    Raises:
        ConfigError: a patient is listed twice or written in two ways, or no patient is left for training.

    Example:
        >>> split = Split(("p1", "p2"), ("p3",), ())
        >>> split.part("train")
        ('p1', 'p2')
        >>> split.hash == Split(("p2", "p1"), ("p3",), ()).hash
        True
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    made: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        problems = []
        for part in PARTS:
            for patient in self.part(part):
                if patient in seen:
                    where = part if seen[patient] == part else f"{seen[patient]} and {part}"
                    problems.append(f"patient {patient!r} is listed twice (in {where})")
                seen[patient] = part
        problems += report_spellings(seen)
        if not self.train:
            problems.append("no patient is left for training")
        if problems:
            raise ConfigError("the split is wrong: " + "; ".join(problems))
        warn_of_divided_scans(seen)

    @property
    def hash(self) -> str:
        """SHA-256 over the patients of each part; the order within a part does not matter."""
        parts = {part: sorted(self.part(part)) for part in PARTS}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def part(self, name: str) -> tuple[str, ...]:
        """Patients of `train`, `val` or `test`."""
        check_choice(name, PARTS, "data.predict_on", others="'all'")
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `split.json`."""
        return {"hash": self.hash, "made": self.made, **{part: list(self.part(part)) for part in PARTS}}


def choose_split(
    patients: Sequence[str],
    *,
    fractions: Sequence[float],
    seed: int,
    patient_of_file: Mapping[str, str] | None = None,
    strata: Mapping[str, int] | None = None,
    slice_split: Sequence[int] | None = None,
    train_patients: Sequence[str] | None = None,
    val_patients: Sequence[str] | None = None,
    test_patients: Sequence[str] | None = None,
    fold: int | None = None,
    num_folds: int | None = None,
    split_file: str | Path | None = None,
) -> Split:
    """Make the split that the options ask for; without any of them it is by `fractions`.

    Scans of one person that have names of BraTS, e.g. `BraTS-GLI-00005-000` and `-001`, stay in one part; shares and
    folds count people. So do unnamed scans of a named person, and a person's name stands for all of its scans.

    Args:
        patients: all patients (scans), each once.
        fractions: shares of train, val and test.
        seed: of the random order for fractions and folds.
        patient_of_file: file name → patient, needed by `slice_split`.
        strata: patient → group; fractions and folds then have the same share of every group. None: no groups.
        slice_split: two positions in the list of files, see `split_by_index`.
        train_patients: named training patients.
        val_patients: named validation patients.
        test_patients: named test patients.
        fold: number of the fold to test.
        num_folds: number of folds.
        split_file: `split.json` of an earlier run.

    Raises:
        ConfigError: two ways at once, or a way that does not fit the data.

    Example:
        >>> patients = [f"p{number}" for number in range(8)]
        >>> choose_split(patients, fractions=(0.5, 0.25, 0.25), seed=0).test
        ('p4', 'p5')
        >>> choose_split(patients, fractions=(0.5, 0.25, 0.25), seed=0, fold=0, num_folds=4).made["by"]
        'fold'
    """
    if (fold is None) != (num_folds is None):
        raise ConfigError("data.fold and data.num_folds belong together; set both or neither")
    named = any(names is not None for names in (train_patients, val_patients, test_patients))
    ways = {
        "data.slice_split": slice_split is not None,
        "data.train_patients, val_patients, test_patients": named,
        "data.fold": fold is not None,
        "data.split_file": split_file is not None,
    }
    chosen = [way for way, wanted in ways.items() if wanted]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} are two ways to split; keep one and set the other to null")
    if slice_split is not None:
        return split_by_index(patient_of_file or {}, slice_split=slice_split)
    if named:
        return split_by_patients(patients, train=train_patients, val=val_patients, test=test_patients)
    if fold is not None and num_folds is not None:
        return split_by_fold(patients, fold=fold, num_folds=num_folds, seed=seed, strata=strata)
    if split_file is not None:
        return split_from_file(patients, split_file)
    return split_by_fractions(patients, fractions=fractions, seed=seed, strata=strata)


def split_by_fractions(
    patients: Sequence[str], *, fractions: Sequence[float], seed: int, strata: Mapping[str, int] | None = None
) -> Split:
    """Split at random by given shares.

    A patient's position in the random order depends on seed, name and group alone, so that a data set that grows keeps
    most patients in their part.

    Args:
        patients: all patients.
        fractions: shares of train, val and test; they add up to 1. A share above 0 gets at least one patient.
        seed: of the random order.
        strata: patient → group; each part then gets its share of every group.
    """
    shares = [float(share) for share in fractions]
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"data.fractions={list(fractions)} must be three shares (train, val, test) that add up to 1")
    wanted, people = sum(share > 0 for share in shares), group_scans(patients)
    if len(people) < wanted:
        raise ConfigError(
            f"data.fractions={list(fractions)} asks for {wanted} parts, but there are {len(people)} patients; "
            "set a share to 0 or name the patients with data.train_patients and so on"
        )
    lists = dict(zip(PARTS, assign_by_fractions(patients, shares, seed, strata), strict=True))
    return _split(lists, {"by": "fractions", "fractions": shares, "seed": seed}, order=patients, strata=strata)


def split_by_fold(
    patients: Sequence[str], *, fold: int, num_folds: int, seed: int, strata: Mapping[str, int] | None = None
) -> Split:
    """K-fold cross-validation: fold k is the test, fold k + 1 chooses the checkpoint, the others train.

    Args:
        patients: all patients.
        fold: k, from 0.
        num_folds: number of folds, from 3 to `len(patients)` (leave one patient out).
        seed: of the random folds.
        strata: patient → group; each fold then gets its share of every group.
    """
    people = group_scans(patients)
    if not 3 <= num_folds <= len(people):
        raise ConfigError(f"data.num_folds={num_folds} must be between 3 and the number of patients ({len(people)})")
    if not 0 <= fold < num_folds:
        raise ConfigError(f"data.fold={fold} must be between 0 and data.num_folds - 1 = {num_folds - 1}")
    order = shuffle_patients(list(people), seed, strata)
    test = order[fold::num_folds]
    val = order[(fold + 1) % num_folds :: num_folds]
    train = [patient for patient in order if patient not in {*test, *val}]
    made = {"by": "fold", "fold": fold, "num_folds": num_folds, "seed": seed}
    lists = {part: list_scans(people, names) for part, names in zip(PARTS, (train, val, test), strict=True)}
    return _split(lists, made, order=patients, strata=strata)


def split_by_given_folds(folds: Mapping[str, int], *, fold: int) -> Split:
    """K-fold cross-validation with given folds: one is the test, the next one chooses the checkpoint.

    Args:
        folds: patient → number of the fold; the numbers may start anywhere.
        fold: number of the fold to test; after the last fold comes the first.

    Raises:
        ConfigError: fewer than three folds, or a fold that does not exist.
    """
    numbers = sorted(set(folds.values()))
    if len(numbers) < 3:
        raise ConfigError(f"data.fold_column holds the folds {numbers}; three are needed to train, validate and test")
    if fold not in numbers:
        raise ConfigError(f"data.fold={fold} does not exist; data.fold_column holds {numbers}")
    following = numbers[(numbers.index(fold) + 1) % len(numbers)]
    parts = {fold: "test", following: "val"}
    lists: dict[str, list[str]] = {part: [] for part in PARTS}
    for patient, number in folds.items():
        lists[parts.get(number, "train")].append(patient)
    return _split(lists, {"by": "fold_column", "fold": fold, "val_fold": following, "num_folds": len(numbers)})


def split_by_patients(
    patients: Sequence[str],
    *,
    train: Sequence[str] | None = None,
    val: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
) -> Split:
    """Split by the names of patients, or of people with several scans.

    Without training patients, all patients that are not named train, but scans of a named person go to its part.
    """
    named = zip(PARTS, (train, val, test), strict=True)
    scans = {find_person(own[0]): own for own in group_scans(patients).values()}
    known = set(patients)
    lists = {
        part: [
            scan for name in map(str, names or ()) for scan in ([name] if name in known else scans.get(name, [name]))
        ]
        for part, names in named
    }
    _check_exist(patients, ((f"data.{part}_patients", name) for part, names in lists.items() for name in names))
    if train is None:
        taken = {*lists["val"], *lists["test"]}
        part_of = {find_person(name): part for part in PARTS for name in lists[part]}
        for patient in patients:
            if patient not in taken:
                lists[part_of.get(find_person(patient), "train")].append(patient)
    return _split(lists, {"by": "patients"})


def split_from_file(patients: Sequence[str], path: str | Path) -> Split:
    """Read the split of an earlier run from its `split.json`.

    Raises:
        ConfigError: no such file, another format, an edited file, or patients that are not in the data set.
    """
    try:
        lists, stored_hash = read_split_file(path)
    except DataError as error:
        raise ConfigError(
            f"data.split_file={str(path)!r} is not a split: expected JSON with the lists train, val and test ({error})"
        ) from error
    _check_exist(patients, ((f"{path}: {part}", name) for part, names in lists.items() for name in names))
    split = _split(lists, {"by": "file", "file": str(path)})
    if stored_hash is not None and stored_hash != split.hash:
        raise ConfigError(
            f"data.split_file={str(path)!r} was edited: its hash is {stored_hash[:12]}, its lists give "
            f"{split.hash[:12]}; delete the line `hash` if the edit was intended"
        )
    return split


def split_by_index(patient_of_file: Mapping[str, str], *, slice_split: Sequence[int]) -> Split:
    """Split by position in the sorted list of files, as the reference does, unless that would divide a patient.

    `slice_split = [v0, v1]` gives validation `[v0:v1]`, training `[v1:]` and test `[:v0]`. The reference tests
    on `[:v1]`, which contains the validation slices that chose the checkpoint; this split does not.

    Args:
        patient_of_file: file name → patient; names are sorted by character, as the reference sorts them.
        slice_split: the two positions.

    Raises:
        ConfigError: positions outside the list, or within a patient; the message has the nearest valid ones.
    """
    ordered = [patient_of_file[name] for name in sorted(patient_of_file)]
    if len(slice_split) != 2 or not 0 <= slice_split[0] <= slice_split[1] < len(ordered):
        raise ConfigError(
            f"data.slice_split={list(slice_split)} must be two positions v0 <= v1 below the number of slices "
            f"({len(ordered)})"
        )
    valid = _patient_boundaries(ordered)
    problems = [
        f"position {position} divides patient {ordered[position]!r}; the nearest that do not are "
        f"{max(index for index in valid if index < position)} and {min(index for index in valid if index > position)}"
        for position in slice_split
        if position not in valid
    ]
    if problems:
        raise ConfigError(f"data.slice_split={list(slice_split)}: " + "; ".join(problems))
    v0, v1 = slice_split
    lists = {"train": ordered[v1:], "val": ordered[v0:v1], "test": ordered[:v0]}
    return _split(
        {part: dict.fromkeys(owners) for part, owners in lists.items()},
        {"by": "slice_split", "slice_split": [int(v0), int(v1)]},
    )


def _patient_boundaries(ordered: Sequence[str]) -> set[int]:
    """Positions that no patient has slices on both sides of."""
    last = {patient: index for index, patient in enumerate(ordered)}
    boundaries, reach = {0}, 0
    for index, patient in enumerate(ordered):
        reach = max(reach, last[patient])
        if reach == index:
            boundaries.add(index + 1)
    return boundaries


def _check_exist(patients: Sequence[str], named: Iterable[tuple[str, str]]) -> None:
    """Raise an error for pairs (where it was named, patient) whose patient is not in the data set."""
    valid = set(patients)
    problems = [f"{where}: no patient {name!r}; {nearest(name, valid)}" for where, name in named if name not in valid]
    if problems:
        raise ConfigError("; ".join(problems))


def _split(
    lists: Mapping[str, Iterable[str]],
    made: Mapping[str, Any],
    *,
    order: Sequence[str] = (),
    strata: Mapping[str, int] | None = None,
) -> Split:
    """Make a split; the patients of each part are sorted as in `order`, or stay as they are listed."""
    index = {patient: number for number, patient in enumerate(order)}
    train, val, test = (
        tuple(sorted(lists[part], key=index.__getitem__) if order else lists[part]) for part in PARTS
    )  # fmt: skip
    return Split(train, val, test, {**made, **({} if strata is None else {"stratified": True})})
