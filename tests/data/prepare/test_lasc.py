import csv

import nibabel as nib
import nrrd
import numpy as np
import pytest
from PIL import Image

from seewhy.data.check import check_dataset
from seewhy.data.prepare import prepare_lasc
from seewhy.errors import DataError
from seewhy.io.image import write_image
from seewhy.io.slices import stack_to_nifti

HEADER = {
    "space": "left-posterior-superior",
    "space directions": np.diag([0.625, 0.625, 1.25]),
    "space origin": [10, 20, 30],
}


def heart(seed, slices=6):
    image = np.random.default_rng(seed).integers(0, 256, (12, 14, slices)).astype(np.uint8)
    mask = np.zeros_like(image)
    mask[4:8, 5:9, 2:4] = 255
    return image, mask


@pytest.fixture
def volumes(tmp_path):
    for seed, case in enumerate(["0RZDK", "1_A"]):
        folder = tmp_path / "lasc" / "Training Set" / case
        folder.mkdir(parents=True)
        image, mask = heart(seed)
        nrrd.write(str(folder / "lgemri.nrrd"), image, HEADER)
        nrrd.write(str(folder / "laendo.nrrd"), mask, HEADER)
    return tmp_path / "lasc"


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "pictures"
    image, mask = heart(3)
    for index in range(6):
        name = f"10001_{index * 10}.png"
        write_image(root / "images" / name, image[..., index])
        magenta = np.zeros((12, 14, 3), np.uint8)
        magenta[..., 0] = magenta[..., 2] = mask[..., index]
        magenta[3, 5:9, [0, 2]] = 90  # an interpolated edge below half of the range
        write_image(root / "masks" / name, magenta)
    return root


def prepared(source, out, **options):
    return prepare_lasc(source, out, progress=False, **options)


def manifest(out):
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_volumes_there_and_back(volumes, tmp_path):
    out = tmp_path / "out"
    summary = prepared(volumes, out, window="none", dtype="source")
    assert (summary.patients, summary.slices, summary.positive) == (2, 12, 4)
    assert {row["patient"] for row in manifest(out)} == {"0RZDK", "1-A"}
    rows = [row for row in manifest(out) if row["patient"] == "1-A"]
    image, mask = heart(1)
    assert [row["file"] for row in rows] == [f"1-A_{k}_{int(k in (2, 3))}.npy" for k in range(6)]
    for row in rows:
        np.testing.assert_array_equal(np.load(out / "imageSlice" / row["file"]), image[..., int(row["slice"])])
        assert (row["spacing_row"], row["spacing_slice"]) == ("0.625", "1.25")
    masks = {int(row["slice"]): np.load(out / "maskSlice" / row["file"]) for row in rows}
    found = nib.load(stack_to_nifti(masks, rows[0]["source"], tmp_path / "back.nii.gz"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), mask // 255)
    np.testing.assert_allclose(np.diag(found.affine), [-0.625, -0.625, 1.25, 1])
    assert not check_dataset(out).errors


def test_every_second_slice(volumes, tmp_path):
    assert prepared(volumes, tmp_path / "out", every=2).slices == 6


def test_volume_problems_at_once(volumes, tmp_path):
    image, mask = heart(0)
    folder = volumes / "Training Set"
    (folder / "bad").mkdir()
    nrrd.write(str(folder / "bad" / "lgemri.nrrd"), image, HEADER)
    mask[0, 0, 0] = 7
    nrrd.write(str(folder / "bad" / "laendo.nrrd"), mask[..., :-1], HEADER)
    (folder / "1_A" / "lgemri.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(DataError) as caught:
        prepared(volumes, tmp_path / "out")
    text = str(caught.value)
    for expected in ("bad: laendo.nrrd", "[0, 7, 255]", "1-A: "):
        assert expected in text
    assert not list(tmp_path.glob("out*"))


def test_case_without_mask_is_left_out(volumes, tmp_path):
    (volumes / "Training Set" / "1_A" / "laendo.nrrd").unlink()
    summary = prepared(volumes, tmp_path / "out")
    assert summary.patients == 1
    assert "laendo.nrrd" in summary.left_out["1-A"]


def test_pictures(pictures, tmp_path):
    out = tmp_path / "out"
    summary = prepared(pictures, out, window="none", dtype="source")
    assert (summary.patients, summary.slices, summary.positive) == (1, 6, 2)
    image, mask = heart(3)
    for row in manifest(out):
        index = int(row["slice"]) // 10
        np.testing.assert_array_equal(np.load(out / "imageSlice" / row["file"]), image[..., index])
        np.testing.assert_array_equal(np.load(out / "maskSlice" / row["file"]), mask[..., index] // 255)
        assert row["spacing_row"] == ""
    with pytest.raises(DataError, match=r"\.png is not NIfTI, NRRD or MetaImage"):
        stack_to_nifti({0: np.zeros((12, 14))}, manifest(out)[0]["source"], tmp_path / "x.nii.gz")


def test_images_may_be_jpeg_and_masks_may_not(pictures, tmp_path):
    path = sorted((pictures / "images").glob("*.png"))[0]
    with Image.open(path) as picture:
        picture.convert("L").save(path.with_suffix(".jpg"), quality=95)
    path.unlink()
    prepared(pictures, tmp_path / "out")
    assert any(row["source"].endswith(".jpg") for row in manifest(tmp_path / "out"))
    mask = pictures / "masks" / path.name
    with Image.open(mask) as picture:
        picture.convert("L").save(mask.with_suffix(".jpeg"))
    mask.unlink()
    with pytest.raises(DataError, match=rf"{path.stem}\.jpeg is stored as JPEG"):
        prepared(pictures, tmp_path / "again")


def test_picture_problems_at_once(pictures, tmp_path):
    write_image(pictures / "images" / "nonumber.png", np.zeros((12, 14), np.uint8))
    write_image(pictures / "images" / "10001_050.png", np.zeros((12, 14), np.uint8))
    write_image(pictures / "masks" / "10001_050.png", np.zeros((12, 14), np.uint8))
    with pytest.raises(DataError) as caught:
        prepared(pictures, tmp_path / "out")
    assert "nonumber.png" in str(caught.value)
    assert "slice 50 of 10001" in str(caught.value)
    (pictures / "images" / "nonumber.png").unlink()
    (pictures / "images" / "10001_050.png").unlink()
    write_image(pictures / "images" / "10001_10.png", np.random.default_rng(0).integers(0, 9, (12, 14, 3), np.uint8))
    write_image(pictures / "masks" / "10001_20.png", np.zeros((12, 13), np.uint8))
    with pytest.raises(DataError) as caught:
        prepared(pictures, tmp_path / "out")
    assert "10001_10.png" in str(caught.value)
    assert "(12, 13)" in str(caught.value)


def test_restart_keeps_what_is_complete_and_refuses_other_settings(pictures, tmp_path):
    out = tmp_path / "out"
    prepared(pictures, out)
    assert prepared(pictures, out).kept == 1
    with pytest.raises(DataError, match=r"window is 'minmax'.*'none'"):
        prepared(pictures, out, window="none")


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        prepared(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"laendo\.nrrd"):
        prepared(tmp_path / "empty", tmp_path / "out")


def test_real_pictures_cannot_train_a_classifier(samples, tmp_path):
    summary = prepared(samples / "lasc", tmp_path / "out", dtype="uint8")
    assert (summary.patients, summary.slices, summary.positive) == (11, 21, 21)
    (problem,) = check_dataset(tmp_path / "out").errors
    assert "label 1" in problem.message
