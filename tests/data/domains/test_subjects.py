import json

import nibabel as nib
import numpy as np
import pytest

from seewhy.batch import MODALITIES
from seewhy.data.domains.measurement import measure_subject, segment_tissue
from seewhy.data.domains.subjects import find_patient, find_subjects
from seewhy.errors import ConfigError, DataError

RENAMED = [
    {},
    {"t1ce": "t1gd"},
    {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"},
    {"t1": "T1", "t1ce": "T1Gd", "t2": "T2", "flair": "FLAIR"},
]


def only(folder):
    subjects, problems = find_subjects(folder)
    assert problems == []
    (subject,) = subjects
    return subject


@pytest.mark.parametrize("names", RENAMED)
def test_every_release_names_its_modalities_otherwise(tmp_path, write, volumes, names):
    write(tmp_path, "Case_7", volumes(), names=names)
    subject = only(tmp_path)
    assert (subject.id, subject.patient) == ("Case-7", "Case-7")
    assert tuple(subject.files) == MODALITIES
    measured = measure_subject(subject)
    np.testing.assert_array_equal(
        measured.volume[:, 2], np.moveaxis(volumes()["t2"], 2, 0)[1:, 4:15, 5:21], err_msg="t2 is the third modality"
    )


def test_files_named_by_their_modality_alone_are_their_folders(tmp_path, volumes):
    (tmp_path / "P1").mkdir()
    for name, values in volumes().items():
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "P1" / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(volumes()["t1"], np.eye(4)), tmp_path / "P1" / "brain_mask.nii.gz")
    subject = only(tmp_path)
    assert subject.id == "P1"
    assert subject.segmentation is None


def test_channels_of_a_four_dimensional_file_are_found_by_name(tmp_path, volumes):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    order = ("flair", "t1", "t1ce", "t2")  # as MSD has them
    values = np.stack([volumes()[name] for name in order], axis=-1)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1, 1, 1])), tmp_path / "imagesTr" / "BRATS_001.nii.gz")
    labels = nib.Nifti1Image(np.ones(values.shape[:3], np.uint8), np.diag([-1.0, -1, 1, 1]))
    nib.save(labels, tmp_path / "labelsTr" / "BRATS_001.nii.gz")
    record = {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": {"0": "background"}}
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    subject = only(tmp_path)
    measured = measure_subject(subject)
    assert subject.id == "001"
    assert measured.mask.all()
    for place, name in enumerate(MODALITIES):
        expected = np.moveaxis(volumes()[name], 2, 0)[1:, 4:15, 5:21]
        np.testing.assert_array_equal(measured.volume[:, place], expected, err_msg=name)


def test_what_is_missing_or_double_is_named_with_all_others(tmp_path, write, volumes):
    write(tmp_path, "A", {name: values for name, values in volumes().items() if name not in ("t2", "flair")})
    write(tmp_path, "B", volumes())
    nib.save(nib.Nifti1Image(volumes()["t1"], np.eye(4)), tmp_path / "B" / "B_t1n.nii.gz")
    write(tmp_path, "C", volumes())
    subjects, problems = find_subjects(tmp_path)
    assert [subject.id for subject in subjects] == ["C"]
    assert len(problems) == 3
    assert "A has no t2 (looked for t2 or t2w); there: t1, t1ce" in problems[0]
    assert "A has no flair" in problems[1]
    assert "several files could be t1 of B (B_t1.nii.gz, B_t1n.nii.gz)" in problems[2]


def test_a_folder_without_subjects_says_what_was_expected(tmp_path):
    assert "<subject>_<modality>.nii.gz" in find_subjects(tmp_path)[1][0]
    assert str(tmp_path / "nowhere") in find_subjects(tmp_path / "nowhere")[1][0]


def test_names_that_would_be_one_on_disk_are_refused(tmp_path, write, volumes):
    write(tmp_path, "P_1", volumes())
    write(tmp_path, "P-1", volumes())
    assert "'P-1'" in find_subjects(tmp_path)[1][0]


@pytest.mark.parametrize(
    ("pattern", "patient"),
    [(None, "UPENN-1-21"), (r"^UPENN-\d+", "UPENN-1"), (r"-(?P<patient>\d+)_", "1"), (r"_(.+)$", "21")],
)
def test_patients_of_several_scans(pattern, patient):
    assert find_patient("UPENN-1_21", pattern) == patient


def test_a_pattern_that_finds_nobody_is_refused():
    with pytest.raises(ConfigError, match=r"data\.patient_pattern.*'X'"):
        find_patient("X", r"\d+")
    with pytest.raises(ConfigError, match=r"data\.patient_pattern"):
        find_patient("X", "(")


def test_tissue_is_the_largest_part_with_its_holes_filled():
    block = np.zeros((4, 12, 12), np.int16)
    block[:, 2:9, 2:9] = 50
    block[:, 5, 5] = 0  # fluid that one modality shows black
    block[1, 11, 11] = 50  # a speck
    found = segment_tissue([block, np.where(block > 0, block + 1, 0)])
    expected = np.zeros(block.shape, bool)
    expected[:, 2:9, 2:9] = True
    np.testing.assert_array_equal(found, expected)


def test_quantiles_are_those_of_the_tissue(tmp_path, write, volumes):
    write(tmp_path, "A", volumes())
    measured = measure_subject(only(tmp_path))
    inside = volumes()["t1ce"][volumes()["t1ce"] > 0]
    np.testing.assert_allclose(measured.quantiles[1][[0, 5, 500, 1000]], np.percentile(inside, [0, 0.5, 50, 100]))
    assert measured.volume.dtype == np.int16
    assert measured.box == ((1, 10), (4, 15), (5, 21))


BROKEN = {
    "NaN": (lambda v: {**v, "t2": np.where(v["t2"] > 3000, np.float32("nan"), v["t2"]).astype(np.float32)}, "t2.*NaN"),
    "constant": (lambda v: {**v, "t1": np.zeros_like(v["t1"])}, r"\(t1\) .*\b0\b"),
    "segmentation": (lambda v: {**v, "flair": (v["flair"] > 0).astype(np.int16)}, r"\(flair\) .*segmentation"),
    "shape": (lambda v: {**v, "t1ce": v["t1ce"][:-1]}, r"t1ce.*shape \(19, 24, 10\), expected \(20, 24, 10\)"),
    "channels": (lambda v: {**v, "t1": np.stack([v["t1"]] * 2, -1)}, "2 channels"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_trained_on_is_refused(tmp_path, write, volumes, kind):
    damage, message = BROKEN[kind]
    write(tmp_path, "A", damage(volumes()), seg=False)
    with pytest.raises(DataError, match=message):
        measure_subject(only(tmp_path))


def test_another_affine_is_refused(tmp_path, write, volumes):
    write(tmp_path, "A", volumes(), seg=False)
    moved = np.diag([-1.0, -1, 1, 1])
    moved[0, 3] = 3
    nib.save(nib.Nifti1Image(volumes()["t2"], moved), tmp_path / "A" / "A_t2.nii.gz")
    with pytest.raises(DataError, match=r"A_t2\.nii\.gz.*A_t1\.nii\.gz.*3 mm"):
        measure_subject(only(tmp_path))


def test_slices_that_are_not_axial_are_refused(tmp_path, write, volumes):
    sagittal = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    write(tmp_path, "A", volumes(), affine=sagittal, seg=False)
    with pytest.raises(DataError, match="axial"):
        measure_subject(only(tmp_path))


def test_a_volume_without_a_head_is_refused(tmp_path, write):
    empty = np.zeros((20, 24, 10), np.int16)
    empty[3, 3:6, 3] = (5, 9, 300)
    write(tmp_path, "A", dict.fromkeys(MODALITIES, empty), seg=False)
    with pytest.raises(DataError, match="tissue"):
        measure_subject(only(tmp_path))
