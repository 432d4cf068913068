import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as arrays

from seewhy.errors import DataError
from seewhy.io.npy import npy_shape, read_npy, read_npz, write_npy, write_npz


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=arrays.arrays(
        dtype=arrays.scalar_dtypes().filter(lambda dtype: dtype.kind in "buif"),
        shape=arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
    )
)
def test_round_trip_is_exact(tmp_path, array):
    path = write_npy(tmp_path / "a.npy", array)
    for mmap in (False, True):
        back = read_npy(path, mmap=mmap)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
    assert npy_shape(path) == array.shape
    named = read_npz(write_npz(tmp_path / "a.npz", {"values": array, "name": np.array(["a"])}))
    assert named["name"].tolist() == ["a"]
    np.testing.assert_array_equal(named["values"], array)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickle_is_named_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("objects.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.array([1.0]).dump("dumped.npy")
    for name in ("objects.npy", "dumped.npy"):
        with pytest.raises(DataError, match=rf"{name} is pickled.*astype"):
            read_npy(name)
    assert not os.path.exists("exploded")


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.npy", b"", "is empty"),
        ("text.npy", b"hello world, this is text", "is not a .npy file"),
        ("zip.npy", b"PK\x03\x04 no archive", "damaged .npz"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, said, mmap):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*{said}"):
        read_npy(tmp_path / name, mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("keep", [7, 60, 200])
def test_cut_off_file_is_named(tmp_path, keep, mmap):
    path = write_npy(tmp_path / "cut.npy", np.arange(100.0))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.npy"):
        read_npy(path, mmap=mmap)


def test_missing_folder_archive_and_strange_types(tmp_path):
    with pytest.raises(DataError, match=r"none\.npy does not exist"):
        read_npy(tmp_path / "none.npy")
    with pytest.raises(DataError, match="is a folder"):
        read_npy(tmp_path)
    np.savez(tmp_path / "two.npz", a=np.ones(2))
    os.rename(tmp_path / "two.npz", tmp_path / "two.npy")
    with pytest.raises(DataError, match=r"two\.npy is a \.npz archive"):
        read_npy(tmp_path / "two.npy")
    np.save(tmp_path / "complex.npy", np.ones(2, complex))
    with pytest.raises(DataError, match=r"complex\.npy holds values of type complex"):
        read_npy(tmp_path / "complex.npy")
    np.save(tmp_path / "nothing.npy", np.ones((0, 4)))
    with pytest.raises(DataError, match=r"nothing\.npy has no values"):
        read_npy(tmp_path / "nothing.npy")
