import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.nifti import NiftiFile, read_nifti, write_nifti, write_nifti_like
from seewhy.io.zarr.opening import open_source

AFFINE = np.array([[-1.5, 0, 0.1, 12], [0, -2, 0, 239], [0.1, 0, 3, -7], [0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_values_type_and_affine_survive(tmp_path, suffix, dtype):
    values = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    path = write_nifti(tmp_path / f"a{suffix}", values, affine=AFFINE)
    found, geometry = read_nifti(path)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(geometry.spacing, np.linalg.norm(AFFINE[:3, :3], axis=0), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@settings(max_examples=20, deadline=None)
@given(
    values=hnp.arrays(np.int16, hnp.array_shapes(min_dims=4, max_dims=4, max_side=4)),
    compressed=st.booleans(),
    data=st.data(),
)
def test_every_lazy_slice_equals_the_slice_of_the_whole(tmp_path_factory, values, compressed, data):
    path = tmp_path_factory.mktemp("n") / ("a.nii.gz" if compressed else "a.nii")
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    file = NiftiFile(path)
    values = values.reshape(file.shape)  # trailing axes of one are dropped
    axis = data.draw(st.integers(0, 2))
    index = data.draw(st.integers(0, file.shape[axis] - 1))
    channel = data.draw(st.integers(0, file.channels - 1)) if values.ndim == 4 else None
    whole = values[..., channel] if channel is not None else values
    np.testing.assert_array_equal(file.read(channel=channel), whole)
    np.testing.assert_array_equal(file.read_slice(index, axis=axis, channel=channel), np.take(whole, index, axis))


def test_header_scaling_is_applied_and_not_carried_over(tmp_path):
    image = nib.Nifti1Image(np.array([[[0.0, 1.0]]]), AFFINE)
    image.header.set_data_dtype(np.int16)
    image.header["descrip"] = b"scanner 7"
    nib.save(image, tmp_path / "scaled.nii")
    file = NiftiFile(tmp_path / "scaled.nii")
    np.testing.assert_allclose(file.read(), [[[0.0, 1.0]]], atol=1e-4)
    labels = np.array([[[3, 7]]], dtype=np.uint8)
    write_nifti(tmp_path / "labels.nii.gz", labels, affine=file.geometry.affine, header=file.header)
    again = NiftiFile(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(again.read(), labels)
    assert again.header["descrip"].item().startswith(b"scanner 7")


def test_bool_is_stored_as_uint8(tmp_path):
    values = np.array([[[True, False]]])
    found, _ = read_nifti(write_nifti(tmp_path / "m.nii.gz", values, affine=np.eye(4)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    "content",
    [b"", b"no nifti at all" * 40, gzip.compress(b"x" * 10, mtime=0)],
    ids=["empty", "text", "no nifti in it"],
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.nii\.gz"):
        read_nifti(path)


def test_a_cut_off_file_is_named(tmp_path):
    values = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    path = write_nifti(tmp_path / "cut.nii.gz", values, affine=np.eye(4))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut\.nii\.gz is truncated or damaged"):
        read_nifti(path)


def test_missing_file_wrong_name_wrong_index(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_nifti(tmp_path / "none.nii.gz")
    with pytest.raises(DataError, match=r"\.nii or \.nii\.gz"):
        write_nifti(tmp_path / "a.img", np.zeros((2, 2, 2)), affine=np.eye(4))
    file = NiftiFile(write_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4, 2)), affine=np.eye(4)))
    with pytest.raises(DataError, match="there is no slice 4 along axis 2"):
        file.read_slice(4, channel=0)
    with pytest.raises(DataError, match="no channel 2"):
        file.read(channel=2)
    with pytest.raises(DataError, match="choose one with `channel`"):
        file.read_slice(0)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.ones((2, 2, 2), np.uint8), affine=np.eye(4))
    with pytest.raises(DataError):
        write_nifti(path, np.zeros((2, 2, 2), complex).astype("O"), affine=np.eye(4))
    np.testing.assert_array_equal(read_nifti(path)[0], 1)
    assert len(list(tmp_path.iterdir())) == 1


def test_geometry_tells_what_differs():
    grid = Geometry((4, 5, 6), AFFINE)
    assert grid.difference(Geometry((4, 5, 6), AFFINE + 1e-4)) is None
    moved = AFFINE.copy()
    moved[0, 3] += 3
    assert "3 mm" in str(grid.difference(Geometry((4, 5, 6), moved)))
    assert "shape (4, 5, 7)" in str(grid.difference(Geometry((4, 5, 7), AFFINE)))
    with pytest.raises(DataError, match="NaN"):
        Geometry((1, 1, 1), np.full((4, 4), np.nan))


def test_writing_like_another_file_keeps_its_place_in_the_scanner(tmp_path):
    affine = np.array([[-1.5, 0.1, 0, 90], [0, 1.5, 0.2, -126], [0, 0, 2.0, -72], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "scan.nii.gz")
    values = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    path = write_nifti_like(tmp_path / "map.nii.gz", values, like=tmp_path / "scan.nii.gz")
    written = nib.load(path)
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), values)
    assert written.header.get_xyzt_units()[0] == "mm"
    with pytest.raises(DataError, match=r"shape \(3, 5, 4\); expected the shape \(3, 4, 5\) of .*scan\.nii\.gz"):
        write_nifti_like(tmp_path / "other.nii.gz", values.transpose(0, 2, 1), like=tmp_path / "scan.nii.gz")


def write_forms(path, *, sform: np.ndarray, sform_code: int = 1, qform_code: int = 0, values=None):
    """A file whose sform has these rows, whatever nibabel thinks of them."""
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16) if values is None else values, None)
    image.header.set_qform(np.diag([1.5, 2.0, 3.0, 1.0]), code=qform_code)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[254:256] = np.int16(sform_code).tobytes()
    content[280:328] = sform[:3].astype("<f4").tobytes()
    path.write_bytes(content)


FLAT = np.diag([1.0, 1.0, 1.0, 1.0])
FLAT[:3, 2] = FLAT[:3, 1]


@pytest.mark.parametrize("sform", [np.zeros((4, 4)), np.diag([1.0, 0, 1, 1]), FLAT, np.full((4, 4), np.nan)])
def test_an_affine_that_is_no_grid_is_refused_or_replaced_by_the_qform(tmp_path, sform):
    write_forms(tmp_path / "a.nii", sform=sform)
    for read in (NiftiFile, open_source):
        with pytest.raises(DataError, match=r"a\.nii: its sform .*set_sform"):
            read(tmp_path / "a.nii")
    write_forms(tmp_path / "b.nii", sform=sform, qform_code=1)
    with pytest.warns(UserWarning, match=r"b\.nii: its sform .*qform is used"):
        file = NiftiFile(tmp_path / "b.nii")
    np.testing.assert_allclose(file.geometry.spacing, (1.5, 2, 3))
    assert file.geometry.oriented
    with pytest.warns(UserWarning, match="qform is used"):
        assert open_source(tmp_path / "b.nii").spacing == (3.0, 2.0, 1.5)
    write_nifti_like(tmp_path / "c.nii", np.zeros((4, 5, 6), np.uint8), like=tmp_path / "b.nii")
    np.testing.assert_allclose(NiftiFile(tmp_path / "c.nii").geometry.affine, file.geometry.affine)


def test_an_invalid_qform_is_not_called_a_damaged_download(tmp_path):
    write_forms(tmp_path / "a.nii", sform=AFFINE, sform_code=0, qform_code=1)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[256:268] = np.array([2, 2, 2], "<f4").tobytes()  # no rotation has such a quaternion
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii: its qform is invalid") as caught:
        NiftiFile(tmp_path / "a.nii")
    assert "download" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_vectors_along_the_fifth_axis_are_channels(tmp_path, suffix):
    values = np.random.default_rng(0).normal(size=(4, 5, 6, 1, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"warp{suffix}")
    file = NiftiFile(tmp_path / f"warp{suffix}")
    assert (file.shape, file.channels) == ((4, 5, 6, 3), 3)
    np.testing.assert_array_equal(file.read(), values[:, :, :, 0])
    np.testing.assert_array_equal(file.read(channel=2), values[:, :, :, 0, 2])
    np.testing.assert_array_equal(file.read_slice(3, axis=1, channel=1), values[:, 3, :, 0, 1])
    source = open_source(tmp_path / f"warp{suffix}")
    whole = tuple(slice(0, size) for size in source.shape[1:])
    np.testing.assert_array_equal(source.read(whole), values[:, :, :, 0].T)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2, 3), np.float32), AFFINE), tmp_path / "time.nii")
    for read in (NiftiFile, open_source):
        with pytest.raises(DataError, match=r"time\.nii has shape \(4, 5, 6, 2, 3\)"):
            read(tmp_path / "time.nii")
