import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from seewhy.data.cases.mri_slices import SliceStackReader, read_header
from seewhy.errors import ConfigError, DataError
from seewhy.io.nifti import write_nifti

LAS = np.array([[-1.5, 0, 0, 90.0], [0, 1.5, 0, -126.0], [0, 0, 1.5, -72.0], [0, 0, 0, 1]])


def save(path, values, affine=LAS):
    return write_nifti(path, values, affine=affine) if path.suffix != ".npy" else np.save(path, values) or path


def placed(reader, path):
    return reader.placement(read_header(path))


def head(shape, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 100, shape).astype(np.float32)


@pytest.mark.parametrize("name", ["mwp1s01_T1.nii.gz", "mwp1s01_T1.nii", "mwp1s01_T1.npy"])
def test_the_reference_pipeline_restated(tmp_path, name):
    """z-norm over the volume; slices 10..125 of axis 1; each resized to 112 by Pillow and padded by 8 zeros."""
    values = head((121, 145, 121))
    path = save(tmp_path / name, values)
    norm = (values - values.mean()) / values.std()
    expected = []
    for number in range(10, 125):
        small = Image.fromarray(norm[:, number, :]).resize((112, 112), Image.Resampling.BILINEAR)
        expected.append(np.pad(np.asarray(small), 8))
    reader = SliceStackReader(axis=1, slices=(10, 125), size=112, pad=8)
    placement = placed(reader, path)
    grid = reader.read_grid(placement)
    assert grid.shape == (115, 128, 128) == placement.grid
    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, np.stack(expected), atol=2e-5)
    assert [placement.slice_number(k) for k in (0, 30, 114)] == [10, 40, 124]


@pytest.mark.parametrize("codes", ["LAS", "RAS", "LPS", "LIA", "PIR"])
def test_named_axes_are_read_from_the_file(tmp_path, codes):
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, code in enumerate(codes):
        row = next(row for row, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[row, axis] = 2.0 if code in "RAS" else -2.0
    path = save(tmp_path / "a.nii.gz", head((4, 5, 6)), affine)
    assert read_header(path).codes == codes
    for name, pair in (("sagittal", "LR"), ("coronal", "PA"), ("axial", "IS")):
        assert codes[placed(SliceStackReader(axis=name), path).axis] in pair


def test_a_named_axis_needs_a_file_that_says_how_it_lies(tmp_path):
    np.save(tmp_path / "a.npy", head((4, 5, 6)))
    image = nib.Nifti1Image(head((4, 5, 6)), None)
    nib.save(image, tmp_path / "b.nii")
    for name in ("a.npy", "b.nii"):
        with pytest.raises(DataError, match=rf"{name} does not store its orientation, so its coronal axis is unknown"):
            placed(SliceStackReader(axis="coronal"), tmp_path / name)
        assert placed(SliceStackReader(axis=2), tmp_path / name).grid == (6, 4, 5)


def test_a_slice_of_the_grid_is_that_slice_of_the_scan(tmp_path):
    values = head((7, 9, 8))
    path = save(tmp_path / "a.nii.gz", values)
    for axis in range(3):
        reader = SliceStackReader(axis=axis, slices=(2, 6), normalize="none")
        placement = placed(reader, path)
        grid = reader.read_grid(placement)
        for number in range(2, 6):
            np.testing.assert_array_equal(grid[placement.position(number)], np.take(values, number, axis))


def test_proportions_are_kept_by_one_number_and_stretched_by_two(tmp_path):
    path = save(tmp_path / "a.nii.gz", head((20, 6, 30)))
    square = placed(SliceStackReader(axis=1, size=15, pad=2), path)
    assert square.size == (6, 10, 15)
    assert square.pad == ((0, 0), (4, 5), (2, 2))
    assert square.grid == (6, 19, 19)
    assert placed(SliceStackReader(axis=1, size=(15, 12), depth=3), path).grid == (3, 15, 12)
    assert placed(SliceStackReader(axis=1), path).grid == (6, 20, 30)


def test_normalisation_is_over_the_whole_volume(tmp_path):
    values = head((12, 14, 10))
    values[:, :4] = 0
    path = save(tmp_path / "a.nii.gz", values)
    whole = SliceStackReader(axis=1)
    grid = whole.read_grid(placed(whole, path))
    assert abs(grid.mean()) < 1e-5
    assert abs(grid.std() - 1) < 1e-5
    part = SliceStackReader(axis=1, slices=(4, 14))
    np.testing.assert_array_equal(part.read_grid(placed(part, path)), grid[4:])  # not over the slices that are left


def test_robust_normalisation_ignores_scale_and_pads_with_background(tmp_path):
    values = np.zeros((20, 24, 20), np.float32)
    values[4:16, 4:20, 4:16] = 100 + 10 * np.random.default_rng(0).standard_normal((12, 16, 12))
    reader = SliceStackReader(axis=1, normalize="robust", pad=3)
    one = save(tmp_path / "a.nii.gz", values)
    two = save(tmp_path / "b.nii.gz", 7 * values)
    grid = reader.read_grid(placed(reader, one))
    np.testing.assert_allclose(grid, reader.read_grid(placed(reader, two)), atol=1e-4)
    assert np.all(grid[0] == grid[0, 0, 0])  # background and padding are one value
    inside = grid[4:20, 7:19, 7:19]
    assert abs(np.median(inside)) < 0.05
    assert grid.min() == grid[0, 0, 0] < inside.mean() - 2


def test_holes_are_filled_and_constant_volumes_are_zero(tmp_path):
    values = head((6, 6, 6))
    values[0, 0, 0] = np.nan
    values[1, 1, 1] = np.inf
    reader = SliceStackReader(axis=0)
    assert np.isfinite(reader.read_grid(placed(reader, save(tmp_path / "a.nii.gz", values)))).all()
    constant = save(tmp_path / "b.nii.gz", np.full((6, 6, 6), 3, np.int16))
    assert not reader.read_grid(placed(reader, constant)).any()
    lost = save(tmp_path / "c.nii.gz", np.full((6, 6, 6), np.nan, np.float32))
    with pytest.raises(DataError, match=r"c\.nii\.gz holds no finite value"):
        reader.read_grid(placed(reader, lost))


def test_masks_follow_their_volume(tmp_path):
    values = head((12, 10, 14))
    mask = np.zeros(values.shape, np.uint8)
    mask[3:7, 2:6, 5:9] = 4
    path, annotation = save(tmp_path / "a.nii.gz", values), save(tmp_path / "m.nii.gz", mask)
    reader = SliceStackReader(axis=1, slices=(1, 9), size=28, pad=1)
    placement = placed(reader, path)
    found = reader.read_mask(annotation, placement)
    assert found.dtype == np.uint8
    assert found.shape == placement.grid
    assert found.sum() == mask.astype(bool).sum() * 4  # twice as fine in both directions
    np.testing.assert_array_equal(placement.restore(found, order=0), mask > 0)
    other = save(tmp_path / "n.nii.gz", mask[1:])
    with pytest.raises(DataError, match=r"n\.nii\.gz has shape \(11, 10, 14\), its volume .*a\.nii\.gz has \(12"):
        reader.read_mask(other, placement)


def test_a_volume_thinner_than_the_slices_is_refused(tmp_path):
    path = save(tmp_path / "a.nii.gz", head((12, 10, 14)))
    with pytest.raises(DataError, match=r"a\.nii\.gz has 10 slices along axis 1 .* data\.slices=\[3, 11\] needs 11"):
        placed(SliceStackReader(axis=1, slices=(3, 11)), path)


def test_files_that_are_no_volumes_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", head((4, 4)))
    save(tmp_path / "series.nii.gz", head((4, 4, 4, 2)))
    (tmp_path / "a.dcm").write_text("")
    for name, said in (
        ("flat.npy", "expected three axes"),
        ("series.nii.gz", "expected three axes"),
        ("a.dcm", "is not a volume"),
        ("gone.nii.gz", "does not exist"),
    ):
        with pytest.raises(DataError, match=f"{name}.*{said}"):
            read_header(tmp_path / name)


def test_wrong_options_come_out_together():
    with pytest.raises(ConfigError) as caught:
        SliceStackReader(axis="coronel", slices=(5, 5), size=0, depth=0, pad=-1, normalize="zcore")
    for said in ("nearest: 'coronal'", "data.slices=[5, 5]", "data.size=0", "data.depth=0", "data.pad=-1", "'zscore'"):
        assert said in str(caught.value)
