"""Names of volumes from `data.volumes` become ids, which are safe as file names and different."""

import numpy as np
import pytest

from seewhy.data.volumes.cases import find_cases
from seewhy.errors import DataError

OPTIONS = {"images": "images", "labels": None, "level": None, "patient_pattern": None}


def found(tmp_path, *names):
    np.save(tmp_path / "scan.npy", np.zeros((4, 4, 4), np.float32))
    return find_cases(tmp_path, volumes={name: {"image": "scan.npy"} for name in names}, **OPTIONS)


def test_names_with_folders_become_safe_ids(tmp_path):
    cases = found(tmp_path, "../../escaped", "x" * 300, "P 01")
    assert [case.id for case in cases[::2]] == ["_.._escaped", "P 01"]
    assert len(cases[1].id) < 200
    assert [case.volume for case in cases] == ["../../escaped", "x" * 300, "P 01"]


def test_names_that_would_share_a_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'a/b' and 'a:b'"):
        found(tmp_path, "a/b", "a:b")
