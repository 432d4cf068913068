import csv
import json
import math

import numpy as np
import pytest

from seewhy.data.slices.datamodule import BraTSDataModule, LASCDataModule
from seewhy.data.slices.files import Naming, list_slices
from seewhy.errors import ConfigError, DataError

BRATS, LASC = BraTSDataModule.naming, LASCDataModule.naming


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        np.save(folder / name, np.zeros((2, 2)))
    return folder


def test_records_in_natural_order(tmp_path):
    names = ["BRATS_2_10_1.npy", "BRATS_2_9_0.npy", "BRATS_10_1_0.npy", "BRATS_2_100_1.npy"]
    touch(tmp_path / "imageSlice", *names)
    folder = list_slices(tmp_path, BRATS, num_classes=2)
    assert [(record.patient, record.slice, record.label) for record in folder.records] == [
        ("2", 9, 0), ("2", 10, 1), ("2", 100, 1), ("10", 1, 0),
    ]  # fmt: skip
    assert folder.patients == ["2", "10"]
    assert not folder.has_masks
    assert folder.records[0].id == "BRATS_2_9_0"


@pytest.mark.parametrize(("naming", "name", "expected"), [
    (BRATS, "BRATS_001_77_1.npy", ("001", 77, 1)),
    (BRATS, "BRATS_Brats18_2013_21_1_77_0.npy", ("Brats18_2013_21_1", 77, 0)),
    (LASC, "atrium001_007_1.npy", ("atrium001", 7, 1)),
    (LASC, "case_3_007_1.npy", ("case_3", 7, 1)),
    (LASC, "abc_1.npy", ("abc", -1, 1)),
])  # fmt: skip
def test_names(tmp_path, naming, name, expected):
    touch(tmp_path, name)
    record = list_slices(tmp_path, naming, num_classes=2).records[0]
    assert (record.patient, record.slice, record.label) == expected


@pytest.mark.parametrize("given", ["", "imageSlice"])
def test_root_or_its_image_folder(slice_set, given):
    folder = list_slices(slice_set / given, BRATS, num_classes=2)
    assert folder.root == slice_set
    assert len(folder.records) == 48
    assert all(record.mask == slice_set / "maskSlice" / record.path.name for record in folder.records)


def test_all_bad_names_at_once(tmp_path):
    touch(tmp_path / "imageSlice", "BRATS_1_2_x.npy", "other.npy", "BRATS_1_3_7.npy", "BRATS_1_1_0.npy", ".tmp-1-a.npy")
    with pytest.raises(DataError) as caught:
        list_slices(tmp_path, BRATS, num_classes=2)
    problems = " | ".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert "BRATS_1_2_x.npy: the label 'x' after the last _ is not an integer" in problems
    assert "other.npy does not match data.pattern" in problems
    assert "BRATS_1_3_7.npy has label 7, but data.num_classes=2 allows 0 to 1" in problems
    assert "imageSlice" in str(caught.value)


def test_missing_and_empty_folders_say_where_they_looked(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}/no/such does not exist.*nearest.*{tmp_path}\).*data\.root"):
        list_slices(tmp_path / "no" / "such", BRATS, num_classes=2)
    with pytest.raises(DataError, match=r"holds no \.npy files.*BRATS_001_77_1\.npy.*data\.root"):
        list_slices(tmp_path, BRATS, num_classes=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        list_slices(tmp_path / "file", BRATS, num_classes=2)


def test_missing_mask_of_a_positive_slice_is_a_problem_of_a_negative_one_is_not(slice_set):
    (slice_set / "maskSlice" / "BRATS_001_0_0.npy").unlink()
    folder = list_slices(slice_set, BRATS, num_classes=2)
    assert folder.records[0].mask is None
    (slice_set / "maskSlice" / "BRATS_001_2_1.npy").unlink()
    with pytest.raises(DataError, match=r"BRATS_001_2_1\.npy shows class 1 but .*maskSlice has no file"):
        list_slices(slice_set, BRATS, num_classes=2)


def write_manifest(root, rows):
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_manifest_tells_patient_source_and_spacing(make_slice_set):
    root = make_slice_set("m", ["1"])
    row = {
        "file": "BRATS_1_0_0.npy", "patient": "Anna", "slice": 40, "label": 0, "source": "/a/b.nii.gz",
        "spacing_row": 0.5, "spacing_col": 0.6, "spacing_slice": "",
    }  # fmt: skip
    write_manifest(root, [row])
    with pytest.raises(DataError, match=r"BRATS_1_1_\d\.npy has no patient in manifest\.csv.* '1' .*'Anna'"):
        list_slices(root, BRATS, num_classes=2)
    others = [{"file": path.name, "patient": "Anna"} for path in (root / "imageSlice").iterdir()]
    write_manifest(root, [row, *(other for other in others if other["file"] != row["file"])])
    folder = list_slices(root, BRATS, num_classes=2)
    record = next(record for record in folder.records if record.path.name == row["file"])
    assert folder.patients == ["Anna"]
    assert (record.patient, record.slice, record.source) == ("Anna", 40, "/a/b.nii.gz")
    assert record.spacing[:2] == (0.5, 0.6)
    assert math.isnan(record.spacing[2])


def test_manifest_that_disagrees(make_slice_set):
    root = make_slice_set("m", ["1"])
    write_manifest(root, [{"file": "BRATS_1_0_0.npy", "label": 1}, {"file": "BRATS_9_0_0.npy", "label": 0}])
    with pytest.raises(DataError) as caught:
        list_slices(root, BRATS, num_classes=2)
    assert caught.value.problems == [
        "BRATS_1_0_0.npy has label 0 in its name but 1 in manifest.csv",
        "BRATS_9_0_0.npy is in manifest.csv but not in the folder",
    ]
    write_manifest(root, [{"name": "x"}])
    with pytest.raises(DataError, match="has no column 'file'; its columns are name"):
        list_slices(root, BRATS, num_classes=2)
    (root / "manifest.csv").write_text("file,patient\n")
    with pytest.raises(DataError, match=r"manifest\.csv lists no file; .*delete"):
        list_slices(root, BRATS, num_classes=2)


def test_info(make_slice_set):
    root = make_slice_set("m", ["1"])
    (root / "dataset.json").write_text(json.dumps({"phantom": True}))
    assert list_slices(root, BRATS, num_classes=2).info == {"phantom": True}
    (root / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json is not valid JSON"):
        list_slices(root, BRATS, num_classes=2)


def test_pattern_is_checked():
    with pytest.raises(ConfigError, match="is not a regular expression"):
        Naming("(", "x")
    with pytest.raises(ConfigError, match=r"needs the group\(s\) label"):
        Naming(r"(?P<patient>.+)\.npy", "x")


def test_patients_that_would_share_a_file_are_refused(tmp_path):
    touch(tmp_path / "imageSlice", "BRATS_1_1_0.npy", "BRATS_2_1_0.npy")
    rows = ["file,patient", "BRATS_1_1_0.npy,site/1", "BRATS_2_1_0.npy,site:1"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    with pytest.raises(DataError) as caught:
        list_slices(tmp_path, BRATS, num_classes=2)
    assert "'site/1'" in str(caught.value)
    assert "'site:1'" in str(caught.value)


def test_files_with_other_endings_are_named(make_slice_set):
    root = make_slice_set("others", ["1"])
    for name in ("imageSlice/BRATS_2_0_0.NPY", "imageSlice/._BRATS_1_0_0.npy", "maskSlice/BRATS_1_0_0.png"):
        (root / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out") as caught:
        list_slices(root, BRATS, num_classes=2)
    texts = [str(warning.message) for warning in caught]
    assert "imageSlice: 2 files (._BRATS_1_0_0.npy, BRATS_2_0_0.NPY) left out" in texts[0]
    assert "maskSlice: 1 file (BRATS_1_0_0.png)" in texts[1]
