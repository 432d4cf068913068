"""Files of plain data with arrays: exact round trips, and damaged files."""

import math
from pathlib import Path

import numpy as np
import pytest

from seewhy.errors import DataError
from seewhy.sharing.parts import read_part, write_part


def test_numbers_texts_and_arrays_come_back_as_they_were(tmp_path):
    content = {
        "rows": [{"id": "ä", "value": 0.1 + 0.2, "none": None, "flag": True}, {"id": "b", "value": math.inf}],
        "arrays": {"f": np.float32([0.1, np.nan]), "u": np.zeros((2, 0), np.uint8)},
        "scalar": np.float32(0.1),
        "nested": [[np.arange(3)]],
    }
    write_part(tmp_path / "deep" / "part.npz", content)
    back = read_part(tmp_path / "deep" / "part.npz")
    assert back["rows"] == content["rows"]
    assert list(back) == list(content)
    for name, array in content["arrays"].items():
        assert back["arrays"][name].dtype == array.dtype
        np.testing.assert_array_equal(back["arrays"][name], array)
    assert isinstance(back["scalar"], np.float32)
    assert back["scalar"] == np.float32(0.1)
    np.testing.assert_array_equal(back["nested"][0][0], np.arange(3))


def test_tuples_and_paths_become_plain_data(tmp_path):
    write_part(tmp_path / "part.npz", {"pair": (1, 2.0), "path": Path("a/b")})
    assert read_part(tmp_path / "part.npz") == {"pair": [1, 2.0], "path": "a/b"}


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "part.npz"
    if damage == "cut":
        write_part(path, {"array": np.arange(1000)})
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "foreign":
        np.savez(path, other=np.arange(3))
    with pytest.raises(DataError, match=r"part\.npz .*start the same command again"):
        read_part(path)
