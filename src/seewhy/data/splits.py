"""The ways to split a data set; none of them cuts a patient.

Who is trained on, who chooses the checkpoint, who is tested: always whole patients.

Dealing patients to the parts of a split: in random order, and evenly within groups where asked.

Splitting patients of two domains: one split, dealt evenly within each domain, that cuts nobody.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seewhy.data.domains.store import DOMAINS, PreparedSubject
from seewhy.errors import ConfigError, nearest

__all__ = [
    "PARTS",
    "Split",
    "assign_by_fractions",
    "check_known",
    "choose_split",
    "shuffle_patients",
    "split_by_fold",
    "split_by_fractions",
    "split_by_given_folds",
    "split_by_index",
    "split_by_patients",
    "split_domains",
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


def shuffle_patients(patients: Sequence[str], seed: int, strata: Mapping[str, int] | None = None) -> list[str]:
    """Patients in an order that depends on the seed and each name alone; group after group where there are groups.

    Every k-th patient of it is then a sample in which each group has its share.

    Args:
        patients: all patients.
        seed: of the deal.
        strata: patient → group.
    """
    groups = strata or {}
    return sorted(
        patients,
        key=lambda patient: (groups.get(patient, 0), hashlib.sha256(f"{seed}:{patient}".encode()).digest()),
    )


def assign_by_fractions(
    patients: Sequence[str], shares: Sequence[float], seed: int, strata: Mapping[str, int] | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Deal patients to train, val and test.

    Each group is dealt by itself, so that every part has patients of every group that is large enough; what
    rounding takes from a part in one group it gets back in the next. Groups with fewer patients than parts
    are put together.

    Args:
        patients: all patients, as many as there are shares above 0 at least.
        shares: of train, val and test; they add up to 1. A share above 0 gets one patient at least.
        seed: of the deal.
        strata: patient → group; None is one group.
    """
    groups = _groups(shuffle_patients(patients, seed, strata), strata or {}, least=sum(share > 0 for share in shares))
    train, val, test = [], [], []
    owed = [0.0, 0.0, 0.0]
    for group in groups:
        exact = [share * len(group) + debt for share, debt in zip(shares, owed, strict=True)]
        counts = _counts(len(group), exact, shares)
        owed = [value - count for value, count in zip(exact, counts, strict=True)]
        val += group[: counts[1]]
        test += group[counts[1] : counts[1] + counts[2]]
        train += group[counts[1] + counts[2] :]
    return train, val, test


def _groups(order: Sequence[str], strata: Mapping[str, int], *, least: int) -> list[list[str]]:
    """The groups in order; those of fewer than `least` patients come last, as one."""
    members: defaultdict[int, list[str]] = defaultdict(list)
    for patient in order:
        members[strata.get(patient, 0)].append(patient)
    large = [group for group in members.values() if len(group) >= least]
    small = [patient for group in members.values() if len(group) < least for patient in group]
    return [*large, small] if small else large


def _counts(total: int, exact: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Whole numbers near the exact ones that add up to the total: largest remainders.

    A share above 0 gets 1 at least where there are enough for all; else training gets its 1 first.
    """
    wanted = [int(share > 0) for share in shares]
    floor = wanted if total >= sum(wanted) else [wanted[0], 0, 0]
    counts = [max(int(value), low) for value, low in zip(exact, floor, strict=True)]
    while sum(counts) < total:
        open_parts = [part for part in range(3) if wanted[part]]
        counts[max(open_parts, key=lambda part: exact[part] - counts[part])] += 1
    while sum(counts) > total:
        counts[max(range(3), key=lambda part: (counts[part] > floor[part], counts[part] - exact[part]))] -= 1
    return counts


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

    Args:
        patients: all patients, each once.
        fractions: shares of train, val and test.
        seed: of fractions and folds.
        patient_of_file: file name → patient, needed by `slice_split`.
        strata: patient → group; fractions and folds then hold all groups alike. None does without.
        slice_split: the reference's positions, see `split_by_index`.
        train_patients: named training patients.
        val_patients: named validation patients.
        test_patients: named test patients.
        fold: which fold is tested.
        num_folds: number of folds.
        split_file: `split.json` of an earlier run.

    Raises:
        ConfigError: two ways at once, or a way that does not fit the data.
    """
    if (fold is None) != (num_folds is None):
        raise ConfigError("data.fold and data.num_folds belong together; give both or none")
    named = any(names is not None for names in (train_patients, val_patients, test_patients))
    ways = {
        "data.slice_split": slice_split is not None,
        "data.train_patients, val_patients, test_patients": named,
        "data.fold": fold is not None,
        "data.split_file": split_file is not None,
    }
    chosen = [way for way, is_chosen in ways.items() if is_chosen]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} are two ways to split; keep one and set the other to null")
    if slice_split is not None:
        owner = patient_of_file or {}
        return split_by_index(list(owner), owner.__getitem__, slice_split=slice_split)
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
    """Deal patients to train, val and test by given shares.

    A patient's place in the deal depends on seed, name and group alone, so that a data set that grows keeps
    most patients where they were.

    Args:
        patients: all patients.
        fractions: shares of train, val and test; they add up to 1. A share above 0 gets one patient at least.
        seed: of the deal.
        strata: patient → group; each part then gets its share of every group.
    """
    shares = [float(share) for share in fractions]
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"data.fractions={list(fractions)} must be three shares (train, val, test) that add up to 1")
    wanted = sum(share > 0 for share in shares)
    if len(patients) < wanted:
        raise ConfigError(
            f"data.fractions={list(fractions)} asks for {wanted} parts, but there are {len(patients)} patients; "
            "set a share to 0 or name the patients with data.train_patients and so on"
        )
    train, val, test = assign_by_fractions(patients, shares, seed, strata)
    made = {"by": "fractions", "fractions": shares, "seed": seed, **_told(strata)}
    return _in_order(patients, train, val, test, made)


def split_by_fold(
    patients: Sequence[str], *, fold: int, num_folds: int, seed: int, strata: Mapping[str, int] | None = None
) -> Split:
    """K-fold cross-validation: fold k is the test, fold k + 1 chooses the checkpoint, the others train.

    Args:
        patients: all patients.
        fold: which fold is tested, from 0.
        num_folds: number of folds, 3 at least, `len(patients)` at most (leave one patient out).
        seed: of the deal into folds.
        strata: patient → group; each fold then gets its share of every group.
    """
    if not 3 <= num_folds <= len(patients):
        raise ConfigError(f"data.num_folds={num_folds} must be between 3 and the number of patients ({len(patients)})")
    if not 0 <= fold < num_folds:
        raise ConfigError(f"data.fold={fold} must be between 0 and data.num_folds - 1 = {num_folds - 1}")
    order = shuffle_patients(patients, seed, strata)
    test = order[fold::num_folds]
    val = order[(fold + 1) % num_folds :: num_folds]
    train = [patient for patient in order if patient not in {*test, *val}]
    made = {"by": "fold", "fold": fold, "num_folds": num_folds, "seed": seed, **_told(strata)}
    return _in_order(patients, train, val, test, made)


def split_by_given_folds(folds: Mapping[str, int], *, fold: int) -> Split:
    """K-fold cross-validation with folds that somebody else dealt: one is the test, the next chooses the checkpoint.

    Args:
        folds: patient → number of its fold, from any start.
        fold: which one is tested; the one after the last is the first.

    Raises:
        ConfigError: fewer than three folds, or one that does not exist.
    """
    numbers = sorted(set(folds.values()))
    if len(numbers) < 3:
        raise ConfigError(f"data.fold_column holds the folds {numbers}; testing, validating and training take three")
    if fold not in numbers:
        raise ConfigError(f"data.fold={fold} does not exist; data.fold_column holds {numbers}")
    following = numbers[(numbers.index(fold) + 1) % len(numbers)]
    parts = {fold: "test", following: "val"}
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for patient, number in folds.items():
        lists[parts.get(number, "train")].append(patient)
    made = {"by": "fold_column", "fold": fold, "val_fold": following, "num_folds": len(numbers)}
    return Split(tuple(lists["train"]), tuple(lists["val"]), tuple(lists["test"]), made)


def split_by_patients(
    patients: Sequence[str],
    *,
    train: Sequence[str] | None = None,
    val: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
) -> Split:
    """Named patients; those nobody named train, unless the training patients are named too.

    Args:
        patients: all patients.
        train: training patients; None means all the others.
        val: validation patients.
        test: test patients.
    """
    lists = {"train": train, "val": val, "test": test}
    chosen = {part: [str(patient) for patient in names or ()] for part, names in lists.items()}
    check_known(patients, ((f"data.{part}_patients", name) for part, names in chosen.items() for name in names))
    if train is None:
        taken = {*chosen["val"], *chosen["test"]}
        chosen["train"] = [patient for patient in patients if patient not in taken]
    made = {"by": "patients"}
    return Split(tuple(chosen["train"]), tuple(chosen["val"]), tuple(chosen["test"]), made)


def _told(strata: Mapping[str, int] | None) -> dict[str, Any]:
    """For the record of how a split was made."""
    return {} if strata is None else {"stratified": True}


def _in_order(
    patients: Sequence[str], train: Iterable[str], val: Iterable[str], test: Iterable[str], made: dict[str, Any]
) -> Split:
    """The split with every part in the order of the data set."""
    place = {patient: index for index, patient in enumerate(patients)}
    ordered = [tuple(sorted(part, key=place.__getitem__)) for part in (train, val, test)]
    return Split(ordered[0], ordered[1], ordered[2], made)


def split_domains(subjects: Sequence[PreparedSubject], **options: Any) -> Split:
    """Make the split that the options ask for.

    Patients who were scanned at both sites are a group of their own, so that each is in one part with all scans.

    Args:
        subjects: of both domains.
        options: of `seewhy.data.splits.choose_split`.
    """
    domains: dict[str, set[str]] = {}
    for subject in subjects:
        domains.setdefault(subject.patient, set()).add(subject.domain)
    groups = {patient: _group(found) for patient, found in domains.items()}
    return choose_split(list(domains), strata=groups, **options)


def _group(domains: set[str]) -> int:
    """0 for a, 1 for b, 2 for both."""
    return len(DOMAINS) if len(domains) > 1 else DOMAINS.index(next(iter(domains)))
