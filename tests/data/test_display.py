"""Pictures are upright wherever the volumes came from; arrays stay as they are stored."""

import json

import nibabel as nib
import nrrd
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from seewhy.data.prepare import prepare_brats, prepare_lasc
from seewhy.data.slices.datamodule import BraTSDataModule, LASCDataModule
from seewhy.errors import DataError
from seewhy.figures.style import turn_upright

SHAPE = (20, 24, 6)


def head():
    """A head in LPS, seen upright by transposing: its right-anterior corner is the brightest, [x, y, z]."""
    image = np.zeros(SHAPE, np.float32)
    image[2:18, 2:22, 1:5] = 100 + np.random.default_rng(0).random((16, 20, 4))
    image[2:5, 2:4, 1:5] = 900
    image[14:18, 18:22, 1:5] = 400
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[8:12, 8:12, 2:4] = 2
    return image, lesion


def save(folder, case, codes):
    """Write the same head with its axes stored in another order."""
    folder = folder / case
    folder.mkdir(parents=True)
    turn = ornt_transform(axcodes2ornt(tuple("LPS")), axcodes2ornt(tuple(codes)))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    for kind, volume in zip(("flair", "seg"), head(), strict=True):
        stored = nib.orientations.apply_orientation(volume, turn)
        affine = lps @ inv_ornt_aff(turn, SHAPE)
        assert nib.aff2axcodes(affine) == tuple(codes)
        nib.save(nib.Nifti1Image(stored, affine), folder / f"{case}_{kind}.nii.gz")


def seen(root, patient, module=BraTSDataModule):
    """The middle slice of a patient as a picture."""
    data = module(root=str(root))
    [record] = [record for record in data.folder.of_patients([patient]) if record.slice in (3, "3")]
    return turn_upright(np.load(record.path), data.display_of(patient))


def expected():
    return head()[0][:, :, 3].T / 900


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAS", "PLS", "ARS"])
def test_the_same_corner_of_the_head_lands_top_left(tmp_path, codes):
    source, out = tmp_path / "source", tmp_path / "out"
    save(source, "Case-1", codes)
    prepare_brats(source, out, brain_only=False, progress=False)
    picture = seen(out, "Case-1")
    assert picture[2:4, 2:5].min() == picture.max() == 1
    np.testing.assert_allclose(picture, expected(), atol=1e-6)


def test_files_stay_as_the_volume_has_them(tmp_path):
    save(tmp_path / "source", "Case-1", "RAS")
    prepare_brats(tmp_path / "source", tmp_path / "out", window="none", brain_only=False, progress=False)
    stored = nib.load(tmp_path / "source" / "Case-1" / "Case-1_flair.nii.gz").get_fdata()
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "imageSlice" / "BRATS_Case-1_3_1.npy"), stored[..., 3])


def test_patients_that_are_stored_otherwise_are_exceptions(tmp_path):
    for case, codes in (("A", "LPS"), ("B", "RAS"), ("C", "LPS")):
        save(tmp_path / "source", case, codes)
    out = tmp_path / "out"
    prepare_brats(tmp_path / "source", out, brain_only=False, progress=False)
    record = json.loads((out / "dataset.json").read_text())
    axial = {"transpose": True, "plane": "axial"}
    assert record["display"] == {**axial, "flip_rows": False, "flip_columns": False}
    assert record["display_exceptions"] == {"B": {**axial, "flip_rows": True, "flip_columns": True}}
    for patient in "ABC":
        np.testing.assert_allclose(seen(out, patient), expected(), atol=1e-6)


def test_an_exception_may_need_no_turn_at_all(make_slice_set):
    root = make_slice_set("set", ["1", "2"])
    turned, plain = {"transpose": True}, {"transpose": False}
    (root / "dataset.json").write_text(json.dumps({"display": turned, "display_exceptions": {"2": plain}}))
    data = BraTSDataModule(root=str(root))
    assert [data.display_of(patient).transpose for patient in "12"] == [True, False]


def test_nrrd_says_it_only_with_a_space(tmp_path):
    image, lesion = head()
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    for name, told in (("with", header), ("without", {"spacings": [1.0, 1.0, 1.0]})):
        folder = tmp_path / name / "case"
        folder.mkdir(parents=True)
        nrrd.write(str(folder / "lgemri.nrrd"), image, told)
        nrrd.write(str(folder / "laendo.nrrd"), lesion, told)
        prepare_lasc(tmp_path / name, tmp_path / f"{name}_out", progress=False)
    np.testing.assert_allclose(seen(tmp_path / "with_out", "case", LASCDataModule), expected(), atol=1e-6)
    assert "display" not in json.loads((tmp_path / "without_out" / "dataset.json").read_text())
    stored = seen(tmp_path / "without_out", "case", LASCDataModule)
    np.testing.assert_allclose(stored, expected().T, atol=1e-6)


def test_an_unknown_orientation_is_left_as_stored(make_slice_set):
    root = make_slice_set("set", ["1", "2"])
    assert BraTSDataModule(root=str(root)).display_of("1").record() == dict.fromkeys(
        ("transpose", "flip_rows", "flip_columns"), False
    )


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"display": {"transposed": True}}, "display has transposed=True; expected true or false for transpose, "),
        ({"display": "turn_upright"}, "display is 'turn_upright'; expected true or false"),
        ({"display_exceptions": ["1"]}, r"display_exceptions is \['1'\]; expected patients"),
        ({"display_exceptions": {"1": {"flip_rows": "yes"}}}, "display has flip_rows='yes'"),
    ],
)
def test_mistakes_are_found_when_the_files_are_listed_and_not_after_the_training(make_slice_set, record, said):
    root = make_slice_set("set", ["1", "2"])
    (root / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=rf"dataset\.json: {said}"):
        _ = BraTSDataModule(root=str(root)).folder
