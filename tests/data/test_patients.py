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
        choose_split(scans, fractions=(0.6, 0.2, 0.2), seed=0, test_patients=scans[1:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_split(scans, fractions=(0.6, 0.2, 0.2), seed=0, test_patients=scans[:2])
