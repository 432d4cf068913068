import random

import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.slices import natural_key, stack_slices, stack_to_nifti

AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1.5, 0], [0, 0, 0, 1.0]])


@settings(max_examples=40, deadline=None)
@given(axis=st.integers(0, 2), seed=st.integers(0, 99), data=st.data())
def test_cutting_and_stacking_is_the_identity(axis, seed, data):
    shape = (3, 4, 5)
    volume = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    kept = data.draw(st.sets(st.integers(0, shape[axis] - 1), min_size=1))
    stacked = stack_slices({i: np.take(volume, i, axis) for i in kept}, Geometry(shape, AFFINE), axis=axis)
    expected = np.moveaxis(np.zeros_like(volume), axis, 0)
    for index in kept:
        expected[index] = np.take(volume, index, axis)
    np.testing.assert_array_equal(stacked, np.moveaxis(expected, 0, axis))


def test_the_source_grid_is_kept_also_of_four_axes(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 3, 2), np.float32), AFFINE)
    image.header.set_qform(AFFINE, code=1)
    image.header.set_sform(AFFINE, code=2)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "source.nii.gz")
    plane = np.arange(16, dtype=np.uint8).reshape(4, 4)
    path = stack_to_nifti({2: plane}, tmp_path / "source.nii.gz", tmp_path / "out.nii.gz")
    found = nib.load(path)
    assert found.shape == (4, 4, 3)
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert (int(found.header["qform_code"]), int(found.header["sform_code"])) == (1, 2)
    assert found.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(found.header.get_zooms(), (1, 1, 1.5))
    values = np.asarray(found.dataobj)
    np.testing.assert_array_equal(values[..., 2], plane)
    assert not values[..., :2].any()


def test_nrrd_source(tmp_path):
    header = {"space": "left-posterior-superior", "space directions": np.eye(3) * 2, "space origin": [1, 2, 3]}
    nrrd.write(str(tmp_path / "lgemri.nrrd"), np.zeros((2, 3, 4), np.uint8), header)
    path = stack_to_nifti({0: np.ones((2, 3)) * 0.25}, tmp_path / "lgemri.nrrd", tmp_path / "out.nii")
    found = nib.load(path)
    np.testing.assert_array_equal(np.diag(found.affine), [-2, -2, 2, 1])
    np.testing.assert_array_equal(found.affine[:3, 3], [-1, -2, 3])
    assert found.get_data_dtype() == np.float32
    assert np.asarray(found.dataobj)[..., 0].min() == 0.25


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "uint8"), ([0, 256], "uint16"), ([-1, 5], "int32"), ([0.5, 1], "float32"), ([True, False], "uint8")],
)
def test_stored_type_holds_the_values(values, dtype):
    stacked = stack_slices({0: np.array([values])}, Geometry((1, 2, 1), np.eye(4)))
    assert stacked.dtype == dtype
    np.testing.assert_array_equal(stacked[..., 0], [values])


def test_all_misfits_at_once(tmp_path):
    grid = Geometry((4, 4, 3), AFFINE)
    with pytest.raises(DataError) as caught:
        stack_slices({0: np.zeros((4, 5)), 7: np.zeros((4, 4))}, grid)
    assert "slice 7 lies outside" in str(caught.value)
    assert "slice 0 has shape (4, 5)" in str(caught.value)
    with pytest.raises(DataError, match="no slices to stack"):
        stack_slices({}, grid)
    with pytest.raises(DataError, match="is not NIfTI, NRRD or MetaImage"):
        stack_to_nifti({0: np.zeros((2, 2))}, tmp_path / "a.png", tmp_path / "out.nii.gz")


def test_numbers_in_names_count_as_numbers():
    names = ["9", "10", "a", "a9", "a10", "b1"]
    mixed = names[:]
    random.Random(0).shuffle(mixed)
    assert sorted(mixed, key=natural_key) == names


def test_digits_that_are_no_decimals_are_letters():
    assert sorted(["x²", "x10", "x9"], key=natural_key) == ["x9", "x10", "x²"]
