import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.data.assignment import assign_by_fractions, shuffle_patients
from seewhy.data.splits import (
    Split,
    choose_split,
    split_by_fold,
    split_by_fractions,
    split_by_given_folds,
    split_by_index,
    split_by_patients,
    split_from_file,
)
from seewhy.errors import ConfigError

PATIENTS = [f"p{number}" for number in range(20)]
FRACTIONS = (0.6, 0.15, 0.25)


def everyone(split):
    return sorted(split.train + split.val + split.test)


@given(count=st.integers(3, 60), seed=st.integers(0, 1000))
def test_fractions_deal_everyone_once_in_the_asked_shares(count, seed):
    patients = [f"p{number}" for number in range(count)]
    split = split_by_fractions(patients, fractions=FRACTIONS, seed=seed)
    assert everyone(split) == sorted(patients)
    sizes = [len(part) for part in (split.train, split.val, split.test)]
    assert min(sizes) >= 1
    if count >= 7:  # below, the promise of one patient per part comes first
        assert all(abs(size - share * count) <= 1 for size, share in zip(sizes, FRACTIONS, strict=True))


def test_hash_is_stable_and_ignores_order():
    split = Split(("b", "a"), ("c",), ())
    # sha256 of {"test": [], "train": ["a", "b"], "val": ["c"]}: runs of later versions must agree with stored ones.
    assert split.hash == "6bf0e7c8cc3d12a95b27e109894055fb7319fba7e87b412fdfd77a10c61be125"
    assert split.hash == Split(("a", "b"), ("c",), (), {"by": "other"}).hash
    assert split.hash != Split(("a",), ("c", "b"), ()).hash


def test_split_depends_on_seed_but_not_on_order_of_patients():
    first = split_by_fractions(PATIENTS, fractions=FRACTIONS, seed=0)
    assert split_by_fractions(PATIENTS[::-1], fractions=FRACTIONS, seed=0).hash == first.hash
    assert split_by_fractions(PATIENTS, fractions=FRACTIONS, seed=1).hash != first.hash


def test_zero_share_gives_an_empty_part():
    split = split_by_fractions(PATIENTS, fractions=(0.8, 0, 0.2), seed=0)
    assert split.val == ()
    assert (len(split.train), len(split.test)) == (16, 4)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.1, 0.1), (1.2, -0.2, 0)])
def test_wrong_fractions(fractions):
    with pytest.raises(ConfigError, match=r"data\.fractions"):
        split_by_fractions(PATIENTS, fractions=fractions, seed=0)


@pytest.mark.parametrize("num_folds", [3, 5, 20])
def test_folds_test_and_validate_everyone_once(num_folds):
    splits = [split_by_fold(PATIENTS, fold=fold, num_folds=num_folds, seed=0) for fold in range(num_folds)]
    assert sorted(sum((split.test for split in splits), ())) == sorted(PATIENTS)
    assert sorted(sum((split.val for split in splits), ())) == sorted(PATIENTS)
    assert all(everyone(split) == sorted(PATIENTS) for split in splits)


def test_named_patients():
    split = split_by_patients(PATIENTS, test=["p3"], val=["p5"])
    assert split.test == ("p3",)
    assert "p5" not in split.train
    assert len(split.train) == 18
    assert split_by_patients(PATIENTS, train=["p1"], test=["p2"]).train == ("p1",)
    with pytest.raises(ConfigError, match=r"data\.test_patients: no patient 'p33'; nearest: 'p3'"):
        split_by_patients(PATIENTS, test=["p33"])
    with pytest.raises(ConfigError, match="'p1' is listed twice"):
        split_by_patients(PATIENTS, train=["p1"], test=["p1"])
    with pytest.raises(ConfigError, match="no patient is left"):
        split_by_patients(["a"], test=["a"])


def names_of(counts):
    return [f"BRATS_{number:03d}_{index}_0.npy" for number, count in enumerate(counts) for index in range(count)]


def owner(name):
    return name.split("_")[1]


def owners_of(counts):
    return {name: owner(name) for name in names_of(counts)}


def test_index_split_is_the_references_without_testing_on_validation():
    split = split_by_index(owners_of([4, 3, 5, 2]), slice_split=[4, 7])
    assert (split.test, split.val, split.train) == (("000",), ("001",), ("002", "003"))
    assert split_by_index(owners_of([4, 3]), slice_split=[0, 0]).train == ("000", "001")


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=6), data=st.data())
def test_index_split_never_cuts_a_patient(counts, data):
    names = names_of(counts)
    v0, v1 = sorted(data.draw(st.lists(st.integers(0, len(names) - 1), min_size=2, max_size=2)))
    borders = {sum(counts[:number]) for number in range(len(counts))}
    if {v0, v1} <= borders:
        split = split_by_index(owners_of(counts), slice_split=[v0, v1])
        assert everyone(split) == sorted({owner(name) for name in names})
    else:
        with pytest.raises(ConfigError, match="divides patient"):
            split_by_index(owners_of(counts), slice_split=[v0, v1])


def test_refusal_names_the_nearest_positions_that_do():
    with pytest.raises(ConfigError, match=r"position 5 divides patient '001'; .* 4 and 7"):
        split_by_index(owners_of([4, 3, 5]), slice_split=[0, 5])
    with pytest.raises(ConfigError, match="must be two positions"):
        split_by_index(owners_of([4]), slice_split=[0, 4])


def test_interleaved_patients_have_no_border_between_them():
    names = ["1_a.npy", "2_b.npy", "3_a.npy", "4_c.npy"]
    with pytest.raises(ConfigError, match=r"position 1 .* 0 and 3"):
        split_by_index({name: name[2] for name in names}, slice_split=[0, 1])


def test_stored_split_comes_back_and_edits_are_noticed(tmp_path):
    split = split_by_fractions(PATIENTS, fractions=FRACTIONS, seed=0)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split.to_dict()))
    assert split_from_file(PATIENTS, path) == split
    with pytest.raises(ConfigError, match="no patient"):
        split_from_file(PATIENTS[:5], path)
    edited = split.to_dict()
    edited["train"] = edited["train"][1:]
    path.write_text(json.dumps(edited))
    with pytest.raises(ConfigError, match="was edited"):
        split_from_file(PATIENTS, path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="is not a split"):
        split_from_file(PATIENTS, path)
    with pytest.raises(ConfigError, match=r"data\.split_file.*none\.json does not exist"):
        split_from_file(PATIENTS, tmp_path / "none.json")


def test_one_way_at_a_time():
    with pytest.raises(ConfigError, match="two ways to split"):
        choose_split(PATIENTS, fractions=FRACTIONS, seed=0, fold=0, num_folds=3, slice_split=[0, 1])
    with pytest.raises(ConfigError, match="belong together"):
        choose_split(PATIENTS, fractions=FRACTIONS, seed=0, fold=0)
    assert choose_split(PATIENTS, fractions=FRACTIONS, seed=0).made["by"] == "fractions"
    assert choose_split(PATIENTS, fractions=FRACTIONS, seed=0, test_patients=["p1"]).test == ("p1",)


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
