import csv
import json
import pickle
import tracemalloc

import numpy as np
import pytest

from seewhy.data.check import check_dataset
from seewhy.data.slices.files import Naming
from seewhy.errors import ConfigError
from seewhy.io.slices import find_plane_shape

COLUMNS = ["file", "patient", "slice", "label", "area"]


def write(root, name, image, mask=None):
    for part, array in (("imageSlice", image), ("maskSlice", mask)):
        if array is not None:
            (root / part).mkdir(parents=True, exist_ok=True)
            np.save(root / part / name, array)


@pytest.fixture
def data(tmp_path):
    """Four patients of six slices, half of them positive, with masks and manifest; nothing is wrong with it."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    rows = []
    for patient in ("001", "002", "003", "004"):
        for index in range(6):
            mask = np.zeros((8, 9), np.uint8)
            mask[2:4, 2:5] = index % 2
            name = f"BRATS_{patient}_{index}_{index % 2}.npy"
            write(root, name, rng.normal(size=(8, 9)).astype(np.float32), mask)
            rows.append([name, patient, index, index % 2, int(mask.sum())])
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return root


def slice_of(root, name="BRATS_001_1_1.npy"):
    return root / "imageSlice" / name


def only(report, severity, kind):
    """The single finding there is; anything else found would be a false alarm."""
    assert len(report.findings) == 1, report.findings
    (finding,) = report.findings
    assert (finding.severity, finding.kind) == (severity, kind)
    assert finding.remedy
    return finding


def test_a_good_data_set_has_no_findings(data):
    report = check_dataset(data)
    assert report.findings == []
    assert report.ok
    assert report.counts == {"files": 24, "patients": 4, "labels": {"0": 12, "1": 12}, "masks": 24}
    assert check_dataset(data / "imageSlice").findings == []


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (b"", "unreadable", "empty"),
        (b"\x93NUMPY", "unreadable", "BRATS_001_1_1.npy"),
        (b"hello world", "unreadable", "BRATS_001_1_1.npy"),
        (pickle.dumps([1, 2]), "pickled", "code"),
    ],
)
def test_files_that_cannot_be_read(data, content, kind, text):
    slice_of(data).write_bytes(content)
    finding = only(check_dataset(data), "error", kind)
    assert finding.file == "BRATS_001_1_1.npy"
    assert text in finding.message


def test_object_arrays_are_pickles_and_never_loaded(data, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    np.save(slice_of(data), np.array([Trap()], dtype=object), allow_pickle=True)
    only(check_dataset(data), "error", "pickled")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(data, value):
    image = np.load(slice_of(data))
    image[0, :3] = value
    np.save(slice_of(data), image)
    assert "3 of 72 values" in only(check_dataset(data), "error", "not-finite").message


def test_constant_slices_are_told_but_are_no_duplicates(data):
    for name in ("BRATS_001_1_1.npy", "BRATS_002_1_1.npy"):
        np.save(slice_of(data, name), np.zeros((8, 9), np.float32))
    report = check_dataset(data)
    assert [(finding.severity, finding.kind) for finding in report.findings] == [("warning", "constant")] * 2


@pytest.mark.parametrize("shape", [(72,), (2, 8, 9), (8, 9, 4), (1, 1, 8, 9)])
def test_shapes_that_are_no_slice(data, shape):
    np.save(slice_of(data), np.random.default_rng(0).normal(size=shape))
    assert str(shape) in only(check_dataset(data), "error", "shape").message


def test_shapes_that_are_a_slice():
    good = [(8, 9), (8, 9, 1), (8, 9, 3), (1, 8, 9), (3, 8, 9)]
    assert {find_plane_shape(shape) for shape in good} == {(8, 9)}


def test_sizes_within_and_between_patients(data):
    rng = np.random.default_rng(1)
    for part in ("imageSlice", "maskSlice"):
        array = rng.normal(size=(8, 10)) if part == "imageSlice" else np.eye(8, 10, dtype=np.uint8)
        np.save(data / part / "BRATS_001_1_1.npy", array)
    (data / "manifest.csv").unlink()
    finding = only(check_dataset(data), "error", "shape")
    assert finding.file == "001"
    assert "8x9 (5), 8x10 (1)" in finding.message
    for index in range(6):
        name = f"BRATS_001_{index}_{index % 2}.npy"
        write(data, name, rng.normal(size=(8, 10)), np.eye(8, 10, dtype=np.uint8) * (index % 2))
    assert "8x9 (3 patients)" in only(check_dataset(data), "warning", "shape").message


@pytest.mark.parametrize("name", ["BRATS_001_1_x.npy", "BRATS_001_1_0.5.npy", "BRATS_001_1_-1.npy", "BRATS_1.npy"])
def test_names_without_an_integer_label(data, name):
    (data / "manifest.csv").unlink()
    for part in ("imageSlice", "maskSlice"):
        (data / part / "BRATS_001_1_1.npy").rename(data / part / name)
    assert only(check_dataset(data), "error", "name").file == name


def test_labels_against_masks(data):
    (data / "manifest.csv").unlink()
    np.save(data / "maskSlice" / "BRATS_001_1_1.npy", np.zeros((8, 9), np.uint8))
    assert "label 1" in only(check_dataset(data), "error", "label-mask").message
    np.save(data / "maskSlice" / "BRATS_001_1_1.npy", np.ones((8, 9), np.uint8))
    np.save(data / "maskSlice" / "BRATS_001_0_0.npy", np.ones((8, 9), np.uint8))
    assert "72 annotated pixels" in only(check_dataset(data), "error", "label-mask").message


def test_a_stated_label_rule_is_the_measure(data):
    (data / "dataset.json").write_text(json.dumps({"label_rule": "area", "min_area": 6}))
    assert check_dataset(data).ok
    (data / "dataset.json").write_text(json.dumps({"label_rule": "area", "min_area": 7}))
    report = check_dataset(data)
    assert len(report.errors) == 12
    assert "6 annotated pixels" in report.errors[0].message
    assert "'area'" in report.errors[0].message


def test_a_sliver_in_a_negative_slice_is_a_warning_without_a_rule(tmp_path):
    rng = np.random.default_rng(0)
    for patient in range(3):
        mask = np.zeros((20, 20), np.uint8)
        write(tmp_path, f"p{patient}_0_0.npy", rng.normal(size=(20, 20)), mask)
        write(tmp_path, f"p{patient}_1_1.npy", rng.normal(size=(20, 20)), mask + 1)
    mask[0, :3] = 1
    np.save(tmp_path / "maskSlice" / "p0_0_0.npy", mask)
    assert "3 annotated pixels" in only(check_dataset(tmp_path), "warning", "label-mask").message


def test_masks_that_do_not_fit(data):
    (data / "manifest.csv").unlink()
    path = data / "maskSlice" / "BRATS_001_1_1.npy"
    np.save(path, np.ones((9, 8), np.uint8))
    message = only(check_dataset(data), "error", "mask-shape").message
    assert "(9, 8)" in message
    assert "(8, 9)" in message
    np.save(path, np.full((8, 9), 0.5))
    only(check_dataset(data), "error", "mask-values")
    np.save(path, np.full((8, 9), 255, np.uint8))
    finding = only(check_dataset(data), "error", "mask-values")
    assert "255" in finding.message
    path.write_bytes(b"")
    assert only(check_dataset(data), "error", "unreadable").file == "maskSlice/BRATS_001_1_1.npy"


def test_masks_that_lack_or_belong_to_nothing(data):
    (data / "maskSlice" / "BRATS_001_1_1.npy").rename(data / "maskSlice" / "BRATS_009_1_1.npy")
    report = check_dataset(data)
    assert [(finding.kind, finding.file) for finding in report.warnings] == [
        ("mask-missing", "BRATS_001_1_1.npy"),
        ("mask-orphan", "maskSlice/BRATS_009_1_1.npy"),
    ]
    assert report.ok
    for path in (data / "maskSlice").iterdir():
        path.unlink()
    (data / "maskSlice").rmdir()
    assert "Dice" in only(check_dataset(data), "warning", "mask-missing").message


def test_duplicates_across_patients_are_errors_within_one_warnings(data):
    np.save(slice_of(data, "BRATS_002_1_1.npy"), np.load(slice_of(data)))
    finding = only(check_dataset(data), "error", "duplicate")
    assert finding.file == "BRATS_002_1_1.npy"
    assert "BRATS_001_1_1.npy" in finding.message
    np.save(slice_of(data, "BRATS_002_1_1.npy"), np.load(slice_of(data, "BRATS_002_3_1.npy")))
    only(check_dataset(data), "warning", "duplicate")


def test_slices_that_differ_in_one_bit_are_no_duplicates(data):
    image = np.load(slice_of(data))
    image[0, 0] = np.nextafter(image[0, 0], np.float32(9))
    np.save(slice_of(data, "BRATS_002_1_1.npy"), image)
    assert check_dataset(data).findings == []


def test_one_slice_number_twice(data):
    (data / "manifest.csv").unlink()
    write(data, "BRATS_001_1_0.npy", np.random.default_rng(9).normal(size=(8, 9)), np.zeros((8, 9), np.uint8))
    assert "slice 1 of 001" in only(check_dataset(data), "error", "slice-twice").message


def test_one_class_few_patients_and_rare_classes(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        write(tmp_path / "one", f"{index}_5_1.npy", rng.normal(size=(4, 4)), np.ones((4, 4), np.uint8))
    assert "all 4 slices have label 1" in only(check_dataset(tmp_path / "one"), "error", "classes").message
    for index in range(30):
        for patient in ("a", "b", "c"):
            label = int(index == 3)
            image, mask = rng.normal(size=(4, 4)), np.full((4, 4), label, np.uint8)
            write(tmp_path / "rare", f"{patient}_{index}_{label}.npy", image, mask)
    assert "label 1 has 3 of 90" in only(check_dataset(tmp_path / "rare"), "warning", "classes").message
    for index in range(4):
        image, mask = rng.normal(size=(4, 4)), np.full((4, 4), index % 2, np.uint8)
        write(tmp_path / "few", f"a_{index}_{index % 2}.npy", image, mask)
    assert "1 patient(s)" in only(check_dataset(tmp_path / "few"), "warning", "patients").message


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("patient", "002", "patient is '002'"),
        ("slice", "4", "slice is '4'"),
        ("label", "0", "label is '0'"),
        ("area", "5", "area is '5', but 6"),
    ],
)
def test_manifest_rows_against_files(data, column, value, text):
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[2][COLUMNS.index(column)] = value
    with (data / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    finding = only(check_dataset(data), "error", "manifest")
    assert finding.file == "manifest.csv, line 3"
    assert text in finding.message


def test_manifest_rows_too_many_too_few_twice_and_no_table(data):
    path = data / "manifest.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "BRATS_009_1_1.npy,009,1,1,6"]))
    assert "BRATS_009_1_1.npy" in only(check_dataset(data), "error", "manifest").message
    path.write_text("\n".join(lines[:-1]))
    assert only(check_dataset(data), "error", "manifest").file == "BRATS_004_5_1.npy"
    path.write_text("\n".join([*lines, lines[-1]]))
    assert "BRATS_004_5_1.npy" in only(check_dataset(data), "error", "manifest").message
    path.write_text("name,age\n")
    assert "'file'" in only(check_dataset(data), "error", "manifest").message
    (data / "manifest.csv").write_text(
        "\n".join([lines[0] + ",source", *(f"{line},/gone/x.nii.gz" for line in lines[1:])])
    )
    assert only(check_dataset(data), "warning", "source").file == "/gone/x.nii.gz"


def test_where_names_leave_the_patient_open_the_manifest_decides(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        name = f"scan{index}_{index % 2}.npy"
        write(tmp_path, name, rng.normal(size=(4, 4)), np.full((4, 4), index % 2, np.uint8))
        rows.append([name, f"p{index // 4}"])
    assert check_dataset(tmp_path).counts["patients"] == 12
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "patient"], *rows])
    report = check_dataset(tmp_path)
    assert report.findings == []
    assert report.counts["patients"] == 3
    naming = Naming(r"(?P<patient>scan\d)\d*_(?P<label>\d+)\.npy", "scan1_0.npy")
    assert {finding.kind for finding in check_dataset(tmp_path, naming=naming).errors} == {"manifest"}


def split_file(tmp_path, **parts):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": [], "val": [], "test": [], **parts}))
    return path


def test_a_good_split_is_counted(data, tmp_path):
    path = split_file(tmp_path, train=["001", "002"], val=["003"], test=["004"])
    report = check_dataset(data, split=path)
    assert report.findings == []
    assert report.counts["parts"]["train"] == {"patients": 2, "slices": 12, "label 0": 6, "label 1": 6}


def test_a_split_that_cuts_a_patient_or_is_of_other_data(data, tmp_path):
    path = split_file(tmp_path, train=["001", "002"], val=["003"], test=["004", "001"])
    message = only(check_dataset(data, split=path), "error", "split").message
    assert "'001'" in message
    assert "train and test" in message
    path = split_file(tmp_path, train=["001", "009"], val=["003"], test=["004"])
    report = check_dataset(data, split=path)
    assert ["'009' (train)" in finding.message for finding in report.errors] == [True]
    assert ["'002'" in finding.message for finding in report.warnings] == [True]
    path.write_text("{}")
    only(check_dataset(data, split=path), "error", "split")
    only(check_dataset(data, split=tmp_path / "none.json"), "error", "split")


def test_duplicates_across_parts_of_the_split(data, tmp_path):
    np.save(slice_of(data, "BRATS_004_1_1.npy"), np.load(slice_of(data)))
    path = split_file(tmp_path, train=["001", "002"], val=["003"], test=["004"])
    assert "test and train" in only(check_dataset(data, split=path), "error", "duplicate").message


def test_parts_of_one_class(data, tmp_path):
    for index in (1, 3, 5):
        for part in ("imageSlice", "maskSlice"):
            (data / part / f"BRATS_004_{index}_1.npy").unlink()
    (data / "manifest.csv").unlink()
    path = split_file(tmp_path, train=["001", "002"], val=["003"], test=["004"])
    assert only(check_dataset(data, split=path), "warning", "classes").file == "test"
    path = split_file(tmp_path, train=["004"], val=["003"], test=["001", "002"])
    assert only(check_dataset(data, split=path), "error", "classes").file == "train"


def test_the_index_split(data):
    assert check_dataset(data, slice_split=[6, 12]).counts["parts"]["val"]["slices"] == 6
    message = only(check_dataset(data, slice_split=[6, 13]), "error", "split").message
    assert "13" in message
    assert "'003'" in message
    assert "12 and 18" in message
    with pytest.raises(ConfigError, match=r"split.*slice_split"):
        check_dataset(data, split="x.json", slice_split=[1, 2])


def test_missing_and_empty_folders_and_strange_files(data, tmp_path):
    assert only(check_dataset(tmp_path / "none"), "error", "missing").file == str(tmp_path / "none")
    (tmp_path / "empty" / "imageSlice").mkdir(parents=True)
    assert ".npy" in only(check_dataset(tmp_path / "empty"), "error", "missing").message
    (data / "imageSlice" / "notes.txt").write_text("x")
    (data / "imageSlice" / ".tmp-1-BRATS_001_1_1.npy").write_bytes(b"half")
    assert "notes.txt" in only(check_dataset(data), "warning", "name").message
    (data / "imageSlice" / "notes.txt").unlink()
    (data / "dataset.json").write_text("[1]")
    only(check_dataset(data), "error", "description")


def test_memory_does_not_grow_with_the_data(tmp_path):
    def peak(root, count):
        rng = np.random.default_rng(0)
        for index in range(count):
            write(root, f"p{index}_1_{index % 2}.npy", rng.normal(size=(200, 200)))
        tracemalloc.start()
        check_dataset(root)
        _, high = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return high

    peak(tmp_path / "warm", 3)
    few, many = peak(tmp_path / "few", 10), peak(tmp_path / "many", 40)
    assert many - few < 200 * 200 * 8, "30 more slices took less memory than the pixels of one"
