import warnings

import pytest

from seewhy.data.patients import find_spellings
from seewhy.data.splits import Split, choose_split
from seewhy.errors import ConfigError


@pytest.mark.parametrize(
    "pair",
    [("101", "101.0"), ("P01", "p01"), ("007", "7"), ("P1", "P01"), ("sub-1", "sub_1"), ("A 1", "A_1"), ("Ä1", "ä1")],
)
def test_spellings_of_one_patient(pair):
    assert find_spellings(["other", *pair, pair[0]]) == [list(pair)]


@pytest.mark.parametrize("pair", [("1", "10"), ("1.10", "1.1"), ("P1", "Q1"), ("1.5", "1"), ("a0", "a"), ("00", "1")])
def test_different_patients(pair):
    assert find_spellings(pair) == []


def test_no_split_holds_two_spellings():
    with pytest.raises(ConfigError, match=r"'7', '007'"):
        Split(("7", "8"), (), ("007",))
    with pytest.raises(ConfigError, match=r"'p1', 'P1'"):
        choose_split(["p1", "p2", "p3", "P1"], fractions=(0.5, 0.25, 0.25), seed=0)


def test_scans_of_one_patient_in_two_parts_are_warned_of():
    scans = ["BraTS-GLI-00008-000", "BraTS-GLI-00008-001", "BraTS-GLI-00009-000"]
    with pytest.warns(UserWarning, match=r"1 patients .*00008-000 in train, BraTS-GLI-00008-001 in test"):
        choose_split(
            scans, fractions=(0.6, 0.2, 0.2), seed=0, train_patients=[scans[0], scans[2]], test_patients=scans[1:2]
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_split(scans, fractions=(0.6, 0.2, 0.2), seed=0, test_patients=scans[:2])


SCANS = [f"BraTS-GLI-{person:05}-{time:03}" for person in range(12) for time in range(1 + person % 3)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", [{}, {"fold": 1, "num_folds": 4}])
def test_all_scans_of_a_person_are_in_one_part(seed: int, way: dict):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = choose_split(SCANS, fractions=(0.5, 0.25, 0.25), seed=seed, **way)
    people = [{name[:15] for name in split.part(part)} for part in ("train", "val", "test")]
    assert [len(part) for part in people] == [6, 3, 3]
    assert len(set.union(*people)) == 12
    assert sorted([*split.train, *split.val, *split.test]) == SCANS


def test_one_scan_each_is_split_as_before():
    ones = [name for name in SCANS if name.endswith("000")]
    split = choose_split(ones, fractions=(0.5, 0.25, 0.25), seed=0)
    more = choose_split(SCANS, fractions=(0.5, 0.25, 0.25), seed=0)
    for part in ("train", "val", "test"):
        assert set(split.part(part)) == set(more.part(part)) & set(ones)


def test_a_person_is_named_or_follows_a_scan_of_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"fractions": (0.6, 0.2, 0.2), "seed": 0}
        split = choose_split(SCANS, test_patients=["BraTS-GLI-00002"], val_patients=["BraTS-GLI-00004-001"], **options)
    assert split.test == ("BraTS-GLI-00002-000", "BraTS-GLI-00002-001", "BraTS-GLI-00002-002")
    assert sorted(split.val) == ["BraTS-GLI-00004-000", "BraTS-GLI-00004-001"]
    with pytest.raises(ConfigError, match="BraTS-GLI-00099"):
        choose_split(SCANS, test_patients=["BraTS-GLI-00099"], **options)
    with pytest.raises(ConfigError, match=r"num_folds=13 .*\(12\)"):
        choose_split(SCANS, fold=0, num_folds=13, **options)
