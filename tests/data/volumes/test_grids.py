"""Grids of images and labels, and of the volumes of one data set."""

import shutil
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from seewhy.data.volumes.datamodule import VolumesDataModule
from seewhy.errors import DataError
from seewhy.io.npy import write_npy

SHAPE = (10, 11, 12)
SAME = np.eye(4)
MIRRORED = np.diag([-1.0, 1, 1, 1]) + np.array([[0, 0, 0, 9.0]] + [[0] * 4] * 3)
MOVED = np.eye(4) + np.array([[0] * 4, [0, 0, 0, 30.0], [0] * 4, [0] * 4])


def write_case(root, name, image=SAME, labels=SAME, dtype=np.uint8):
    mask = np.zeros(SHAPE, dtype)
    mask[2:5, 2:5, 2:5] = 1
    values = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)
    for folder, array, affine in (("images", values, image), ("labels", mask, labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), root / folder / f"{name}.nii.gz")


def module(root, **options):
    return VolumesDataModule(root=str(root), classes=["background", "lesion"], patch=[4, 4, 4], **options)


def problems_of(root, **options):
    with pytest.raises(DataError) as caught:
        module(root, **options).setup("fit")
    return caught.value.problems


def write_ome(path, array, scale, shift, unit="micrometer"):
    group = zarr.open_group(str(path), mode="w")
    steps = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    content = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [content]}
    group.create_array("0", shape=array.shape, chunks=(8, 8, 8), dtype=array.dtype)[:] = array


def test_labels_on_another_grid_are_refused_case_by_case(tmp_path):
    for name, labels in {"good": np.eye(4), "mirrored": MIRRORED, "moved": MOVED}.items():
        write_case(tmp_path, name, labels=labels)
    write_case(tmp_path, "coarse", labels=np.diag([2.0, 2, 2, 1]))
    coarse, mirrored, moved = problems_of(tmp_path)
    assert "coarse" in coarse
    assert "2 × 2 × 2 mm, expected 1 × 1 × 1 mm" in coarse  # noqa: RUF001
    assert "LAS, expected RAS" in mirrored
    assert moved.startswith("moved: ")
    assert "up to 30 mm" in moved


def test_rounding_of_affines_is_no_other_grid(tmp_path):
    for number in range(4):
        write_case(tmp_path, f"c{number}", labels=np.eye(4) + 1e-5)
    module(tmp_path).setup("fit")


def test_labels_are_whole_numbers_whatever_their_type(tmp_path):
    for number, dtype in enumerate((np.uint8, np.int16, np.float32, np.float64)):
        write_case(tmp_path, f"c{number}", dtype=dtype)
    data = module(tmp_path)
    data.setup("fit")
    assert [data.survey_of(case).counts for case in data.cases] == [{0: 1293, 1: 27}] * 4
    assert {batch["mask"].dtype for batch in data.test_dataloader()} == {torch.uint8}
    half = np.zeros(SHAPE, np.float32)
    half[1:3] = 0.5
    nib.save(nib.Nifti1Image(half, SAME), tmp_path / "labels" / "c2.nii.gz")
    (problem,) = problems_of(tmp_path)
    assert "labels/c2.nii.gz" in problem
    assert "264 values" in problem
    assert "0.5" in problem


@pytest.mark.parametrize(
    ("scale", "shift", "said"),
    [([2, 2, 2], [0, 0, 0], "0.002 × 0.002"), ([1, 1, 1], [3, 0, 0], "0.003 mm")],  # noqa: RUF001
)
def test_ome_labels_are_compared_in_their_own_unit(scale, shift, said, tmp_path):
    array = np.zeros((16, 16, 16), np.uint8)
    array[:4] = 1
    write_ome(tmp_path / "images" / "c.zarr", array.astype(np.float32), [1, 1, 1], [0, 0, 0])
    write_ome(tmp_path / "labels" / "c.zarr", array, scale, shift)
    (problem,) = problems_of(tmp_path)
    assert said in problem


def test_no_file_is_passed_over_silently(tmp_path):
    for number in range(4):
        write_case(tmp_path, f"c{number}")
    for name in ("images/c8.mgz", "images/._c0.nii.gz", "images/.DS_Store", "labels/c1.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "labels" / "c9.nii.gz").write_bytes((tmp_path / "labels" / "c0.nii.gz").read_bytes())
    with pytest.warns(UserWarning, match="left out") as caught:
        assert len(module(tmp_path).cases) == 4
    texts = [str(warning.message) for warning in caught]
    assert "images: 2 files (._c0.nii.gz, c8.mgz) left out" in texts[0]
    assert "labels: 1 file (c1.txt) left out" in texts[1]
    assert "c9.nii.gz" in texts[2]
    write_npy(tmp_path / "images" / "c2.npy", np.zeros(SHAPE[::-1]))
    with pytest.raises(DataError, match=r"c2\.nii\.gz and c2\.npy have one name"):
        _ = module(tmp_path).cases


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_other_scans_are_read_like_nifti(tmp_path, suffix):
    sitk = pytest.importorskip("SimpleITK")
    for number in range(4):
        write_case(tmp_path, f"c{number}")
    expected = {batch["id"][0]: batch for batch in read_all(tmp_path)}
    for path in sorted(tmp_path.rglob("*.nii.gz")):
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", suffix), True)
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = {batch["id"][0]: batch for batch in read_all(tmp_path)}
    assert found.keys() == expected.keys()
    for name, batch in found.items():
        assert torch.equal(batch["image"], expected[name]["image"])
        assert torch.equal(batch["mask"], expected[name]["mask"])
    path = next((tmp_path / "labels").glob(f"c1{suffix}"))
    image = sitk.ReadImage(str(path))
    image.SetOrigin([30.0, 0, 0])
    sitk.WriteImage(image, str(path), True)
    (problem,) = problems_of(tmp_path)
    assert "30 mm" in problem


def read_all(root):
    data = module(root)
    data.setup("fit")
    return list(data.test_dataloader())


def test_stores_without_an_ending_are_read(tmp_path):
    write_case(tmp_path, "c0")
    array = np.zeros(SHAPE, np.uint8)
    for folder in ("images", "labels"):
        write_ome(tmp_path / folder / "c1", array, [1, 1, 1], [0, 0, 0])
        (tmp_path / folder / "c2").mkdir()
        for z, plane in enumerate(array):
            Image.fromarray(plane).save(tmp_path / folder / "c2" / f"p{z:02d}.tif")
    assert [case.id for case in module(tmp_path).cases] == ["c0", "c1", "c2"]


def test_nnunet_raw_names_are_paired_with_their_labels(tmp_path):
    for number in range(3):
        write_case(tmp_path, f"c{number}")
        (tmp_path / "images" / f"c{number}.nii.gz").rename(tmp_path / "images" / f"c{number}_0000.nii.gz")
    assert [case.id for case in module(tmp_path).cases] == ["c0", "c1", "c2"]
    shutil.copy(tmp_path / "images" / "c1_0000.nii.gz", tmp_path / "images" / "c1_0001.nii.gz")
    with pytest.raises(DataError, match="_0000, _0001"):
        _ = module(tmp_path).cases


def turned(affine=SAME):
    """The grid of a volume that is stored superior, left, posterior."""
    return affine[:, [2, 0, 1, 3]] * [1, -1, -1, 1]


def test_volumes_of_several_orientations_are_refused_by_name(tmp_path):
    for number in range(4):
        affine = turned() if number == 2 else SAME
        write_case(tmp_path, f"c{number}", image=affine, labels=affine)
    (problem,) = problems_of(tmp_path)
    assert problem.startswith("c2: stored as SLP, most others as RAS")


def test_voxel_sizes_are_checked_before_training_and_kept_as_any_where_they_differ(tmp_path):
    for number, z in enumerate((1.0, 1.05, 5.0, 1.0)):
        affine = np.diag([1, 1, z, 1])
        write_case(tmp_path, f"c{number}", image=affine, labels=affine)
    (problem,) = problems_of(tmp_path)
    assert "c2: voxels of 5 × 1 × 1 mm, usual are 1 × 1 × 1 mm" in problem  # noqa: RUF001
    assert "data.spacing=ignore" in problem
    data = module(tmp_path, spacing="ignore", test_patients=["c3"], val_patients=["c1"])
    data.setup("fit")
    assert [str(size) for size in data.spacing] == ["nan", "1.0", "1.0"]
    one = module(tmp_path, train_patients=["c0", "c1"], val_patients=["c3"])
    one.setup("fit")
    assert one.spacing == [1, 1, 1]


def test_volumes_to_predict_are_compared_with_the_trained_model(tmp_path):
    for number in range(3):
        write_case(tmp_path, f"c{number}")
    data = module(tmp_path, predict_on="all")
    data.setup("predict")
    data.adopt({"spacing": [2.0, 1.0, 1.0]})
    with pytest.raises(DataError, match="3 problems"):
        data.setup("predict")
    data.adopt({"spacing": [float("nan"), 1.0, 1.0]})
    data.setup("predict")


@pytest.mark.parametrize("unit", [None, "micrometer"])
def test_labels_that_state_no_grid_are_taken(unit, tmp_path):
    array = np.zeros((16, 16, 16), np.uint8)
    array[:4] = 1
    for number in range(4):
        write_ome(tmp_path / "images" / f"c{number}.zarr", array.astype(np.float32), [2, 2, 2], [0, 0, 0])
        if unit is None:
            write_npy(tmp_path / "labels" / f"c{number}.npy", array)
        else:
            write_ome(tmp_path / "labels" / f"c{number}.zarr", array, [1, 1, 1], [0, 0, 0], unit=None)
    module(tmp_path).setup("fit")
