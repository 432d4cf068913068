"""Meaning of label values by release, and nnU-Net's raw layout."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from seewhy.data.domains.subjects import find_subjects
from seewhy.data.prepare import prepare_brats
from seewhy.data.prepare.brats_files import select_region_labels
from seewhy.errors import ConfigError, DataError

SHAPE = (12, 14, 9)
NEW = ("-t2f", "-t1c", "-t1n", "-t2w")
GLIOMA, CHILD, OLD = "BraTS-GLI-02060-100", "BraTS-PED-00001-000", "UCSF_0004"


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)


def head():
    image = np.zeros(SHAPE, np.int16)
    image[2:10, 2:12, 1:8] = np.random.default_rng(0).integers(50, 900, (8, 10, 7))
    return image


def segmentation(values, dtype=np.uint8):
    """Slice 2 holds the first value, slice 3 the second …"""
    seg = np.zeros(SHAPE, dtype)
    for place, value in enumerate(values, start=2):
        seg[4:8, 4:8, place] = value
    return seg


def write(root, name, values, modalities=None, **options):
    modalities = modalities or (NEW if "-" in name else ("_flair",))
    for ending in modalities:
        save(root / name / f"{name}{ending}.nii.gz", head())
    save(root / name / f"{name}{modalities[0][0]}seg.nii.gz", segmentation(values, **options))


def prepare(root, **options):
    out = root.with_name(f"out-{len(list(root.parent.iterdir()))}")
    summary = prepare_brats(root, out, progress=False, **options)
    with (out / "manifest.csv").open(newline="") as file:
        positive = sorted(int(row["slice"]) for row in csv.DictReader(file) if row["label"] == "1")
    return summary, positive


@pytest.mark.parametrize(("tumour", "slices"), [("whole", [2, 3, 4]), ("core", [2, 4]), ("enhancing", [4])])
def test_the_resection_cavity_of_2024_is_no_tumour(tumour, slices, tmp_path):
    write(tmp_path / "brats", GLIOMA, [1, 2, 3, 4])
    summary, found = prepare(tmp_path / "brats", tumour=tumour)
    assert found == slices
    assert "brats2024" in summary.labels
    assert "4 resection cavity" in summary.labels


@pytest.mark.parametrize(("tumour", "slices"), [("whole", [2, 3, 4, 5]), ("core", [2, 3, 4]), ("enhancing", [2])])
def test_children_count_another_way(tumour, slices, tmp_path):
    write(tmp_path / "brats", CHILD, [1, 2, 3, 4])
    summary, found = prepare(tmp_path / "brats", tumour=tumour)
    assert found == slices
    assert "peds2024" in summary.labels


def test_the_scheme_is_that_of_all_cases_not_of_one(tmp_path):
    write(tmp_path / "brats", CHILD, [1, 3])
    write(tmp_path / "brats", CHILD.replace("1-", "2-"), [4])
    assert prepare(tmp_path / "brats", tumour="enhancing")[1] == [2]
    write(tmp_path / "old", OLD, [1, 3])
    write(tmp_path / "old", "UCSF_0005", [1, 2, 4])
    assert prepare(tmp_path / "old", tumour="enhancing")[1] == [4]


@pytest.mark.parametrize(
    ("name", "values", "tumour", "schemes"),
    [
        (CHILD, [1, 2, 3], "core", ("peds2024", "brats2023")),
        (GLIOMA, [1, 2, 4], "whole", ("brats2024", "brats2012")),
        (OLD, [1, 2, 3], "enhancing", ("brats2012", "brats2023")),
        ("mine-7", [1, 2, 3, 4], "whole", ("brats2024", "peds2024")),
    ],
)
def test_values_that_fit_several_releases_are_refused_until_one_is_chosen(name, values, tumour, schemes, tmp_path):
    write(tmp_path / "brats", name, values)
    with pytest.raises(DataError, match=r"label_scheme \(--label-scheme\)") as caught:
        prepare(tmp_path / "brats", tumour=tumour)
    assert all(scheme in str(caught.value) for scheme in (*schemes, str([0, *values])))
    summary, _ = prepare(tmp_path / "brats", tumour=tumour, label_scheme=schemes[1])
    assert summary.labels.startswith(schemes[1])


@pytest.mark.parametrize(
    ("name", "tumour", "slices"),
    [("BraTS20_Training_001", "enhancing", [4]), (OLD, "whole", [2, 3, 4]), (OLD, "core", [2, 4])],
)
def test_old_releases_whose_4_became_3(name, tumour, slices, tmp_path):
    write(tmp_path / "brats", name, [1, 2, 3])
    assert prepare(tmp_path / "brats", tumour=tumour)[1] == slices


def test_values_outside_the_chosen_scheme_are_refused(tmp_path):
    write(tmp_path / "brats", "BraTS-MEN-00001-000", [1, 2, 3, 4])
    with pytest.raises(DataError, match=r"values 4; expected labels out of \[0, 1, 2, 3\]"):
        prepare(tmp_path / "brats")
    with pytest.raises(ConfigError, match="nearest: 'brats2023'"):
        prepare(tmp_path / "brats", label_scheme="brats203")


def test_whole_numbers_may_be_stored_as_floats_but_halves_are_refused(tmp_path):
    write(tmp_path / "brats", OLD, [1.0, 2.0000002, 3.9999998], dtype=np.float32)
    assert prepare(tmp_path / "brats", tumour="core")[1] == [2, 4]
    write(tmp_path / "half", OLD, [1.0, 0.5], dtype=np.float32)
    with pytest.raises(DataError, match=r"UCSF_0004_seg.*16 values .*0\.5"):
        prepare(tmp_path / "half", label_scheme="brats2012")


def test_label_names_of_datasets(tmp_path):
    treated = {"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}
    assert [select_region_labels(treated, tumour) for tumour in ("whole", "core", "enhancing")] == [
        {1, 2, 3}, {1, 3}, {3},
    ]  # fmt: skip
    regions = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    assert [select_region_labels(regions, tumour) for tumour in ("whole", "core", "enhancing")] == [
        {1, 2, 3}, {2, 3}, {3},
    ]  # fmt: skip


@pytest.fixture
def nnunet(tmp_path):
    """Two cases with four channels, one file each."""
    root = tmp_path / "Dataset001"
    for case in ("c1", "c2"):
        for channel in range(4):
            save(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz", head() + channel)
        save(root / "labelsTr" / f"{case}.nii.gz", segmentation([1, 2]))
    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    labels = {"background": 0, "edema": 1, "enhancing tumor": 2}
    (root / "dataset.json").write_text(json.dumps({"channel_names": names, "labels": labels}))
    return root


def test_nnunet_raw_cases_are_read_channel_by_channel(nnunet):
    summary, positive = prepare(nnunet, modality="t1ce", tumour="enhancing", window="none", dtype="source")
    assert (summary.patients, positive) == (2, [3, 3])
    np.testing.assert_array_equal(np.load(summary.destination / "imageSlice" / "BRATS_c1_3_1.npy"), head()[..., 3] + 2)
    subjects, problems = find_subjects(nnunet)
    assert problems == []
    assert [subject.files["t2"].name for subject in subjects] == ["c1_0003.nii.gz", "c2_0003.nii.gz"]
    assert subjects[0].segmentation == nnunet / "labelsTr" / "c1.nii.gz"


def test_missing_channels_and_two_files_of_one_name_are_named(nnunet):
    (nnunet / "imagesTr" / "c2_0002.nii.gz").unlink()
    with pytest.raises(DataError, match=r"no c2_0002\.nii\.gz"):
        prepare(nnunet, modality="t1ce", tumour="enhancing")
    save(nnunet / "labelsTr" / "c1.nii", segmentation([1]))
    with pytest.raises(DataError, match=r"c1\.nii and c1\.nii\.gz"):
        prepare(nnunet, modality="t1ce", tumour="enhancing")


def test_files_that_are_passed_over_are_named(tmp_path, nnunet):
    write(tmp_path / "brats", OLD, [1, 4])
    for name in ("UCSF_0005_flair.mgz", "UCSF_0004_adc.nii.gz", "._UCSF_0004_flair.nii.gz", "readme.txt"):
        (tmp_path / "brats" / OLD / name).write_bytes(b"x")
    left_out = prepare(tmp_path / "brats")[0].left_out
    assert "UCSF_0005_flair.mgz" in left_out["other formats"]
    assert left_out["other names"].startswith("2 files (._UCSF_0004_flair.nii.gz, UCSF_0004_adc.nii.gz)")
    (nnunet / "imagesTr" / "c3_0000.mgz").write_bytes(b"x")
    assert list(prepare(nnunet)[0].left_out) == ["c3_0000.mgz"]
