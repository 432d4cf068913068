"""The ways to split a data set; none of them cuts a patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seewhy.data.dealing import deal_by_shares, dealt
from seewhy.data.splits import Split, check_known, split_by_index, split_from_file
from seewhy.errors import ConfigError

__all__ = ["choose_split", "split_by_fold", "split_by_fractions", "split_by_given_folds", "split_by_patients"]


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
    train, val, test = deal_by_shares(patients, shares, seed, strata)
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
    order = dealt(patients, seed, strata)
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
