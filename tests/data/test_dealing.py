from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.data.splits import (
    assign_by_fractions,
    shuffle_patients,
    split_by_fold,
    split_by_fractions,
    split_by_given_folds,
)
from seewhy.errors import ConfigError

SHARES = (0.6, 0.15, 0.25)
VAL_AND_TEST = ("p2", "p10", "p4", "p5", "p7")
FOLD = ("p6", "p10", "p11")


def population(sizes):
    """Patients p0 …, of which `sizes[k]` are of group k."""
    strata = {}
    for group, size in enumerate(sizes):
        for _ in range(size):
            strata[f"p{len(strata)}"] = group
    return list(strata), strata


groups = st.lists(st.integers(0, 25), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 3)


@given(sizes=groups, seed=st.integers(0, 100))
def test_every_part_has_every_group_that_is_large_enough(sizes, seed):
    patients, strata = population(sizes)
    parts = assign_by_fractions(patients, SHARES, seed, strata)
    assert sorted(patient for part in parts for patient in part) == sorted(patients)
    assert all(parts), "no part is empty"
    for group, size in enumerate(sizes):
        if size >= 3:
            assert all(any(strata[patient] == group for patient in part) for part in parts)
    # What rounding costs is paid back, so that the whole is near the shares however many groups there are.
    for part, share in zip(parts, SHARES, strict=True):
        assert abs(len(part) - share * len(patients)) < 1 + len(sizes)


@given(sizes=groups, seed=st.integers(0, 100), num_folds=st.integers(3, 6))
def test_folds_hold_groups_alike(sizes, seed, num_folds):
    patients, strata = population(sizes)
    if len(patients) < num_folds:
        return
    tests = [
        split_by_fold(patients, fold=fold, num_folds=num_folds, seed=seed, strata=strata).test
        for fold in range(num_folds)
    ]
    assert sorted(patient for test in tests for patient in test) == sorted(patients)
    for group, size in enumerate(sizes):
        counts = [sum(strata[patient] == group for patient in test) for test in tests]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == size


def test_shares_of_large_groups_are_exact():
    patients, strata = population([40, 40, 40])
    parts = assign_by_fractions(patients, SHARES, 0, strata)
    assert [Counter(strata[patient] for patient in part) for part in parts] == [
        dict.fromkeys(range(3), count) for count in (24, 6, 10)
    ]


def test_the_order_is_of_seed_and_names_alone():
    patients, strata = population([7, 9])
    assert shuffle_patients(patients, 3, strata) == shuffle_patients(patients[::-1], 3, strata)
    assert shuffle_patients(patients, 3, strata) != shuffle_patients(patients, 4, strata)
    assert [strata[patient] for patient in shuffle_patients(patients, 3, strata)] == [0] * 7 + [1] * 9


def test_without_groups_splits_are_those_of_earlier_versions():
    # Written down from the version before groups existed: runs of published splits must stay what they were.
    patients = [f"p{number}" for number in range(12)]
    split = split_by_fractions(patients, fractions=SHARES, seed=0)
    assert split.val + split.test == VAL_AND_TEST
    assert "stratified" not in split.made
    assert split_by_fold(patients, fold=1, num_folds=4, seed=0).test == FOLD
    assert split_by_fractions(patients, fractions=SHARES, seed=0, strata=dict.fromkeys(patients, 0)).hash == split.hash


def test_given_folds():
    folds = {"a": 1, "b": 2, "c": 3, "d": 1, "e": 4}
    split = split_by_given_folds(folds, fold=4)
    assert (split.test, split.val, split.train) == (("e",), ("a", "d"), ("b", "c"))
    assert split.made == {"by": "fold_column", "fold": 4, "val_fold": 1, "num_folds": 4}
    with pytest.raises(ConfigError, match=r"data.fold=0 does not exist; .* \[1, 2, 3, 4\]"):
        split_by_given_folds(folds, fold=0)
    with pytest.raises(ConfigError, match="three are needed"):
        split_by_given_folds({"a": 0, "b": 1}, fold=0)
