import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from seewhy.data.check import check_dataset
from seewhy.data.prepare import builder as builder_module
from seewhy.data.prepare import prepare_brats
from seewhy.data.prepare.brats_files import parse_name, resolve_modality, select_region_labels
from seewhy.errors import ConfigError, DataError
from seewhy.io.scans.scan import read_scan, write_scan
from seewhy.io.slices import stack_to_nifti

AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1.0, 0], [0, 0, 0, 1]])


def head(seed, shape=(20, 24, 8)):
    """A block of tissue in slices 1 to 6, with all BraTS labels inside; slice 0 and 7 are air."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.int16)
    image[3:17, 3:20, 1:7] = rng.integers(50, 900, (14, 17, 6))
    seg = np.zeros(shape, np.uint8)
    seg[5:12, 5:12, 2:5] = 2
    seg[6:10, 6:10, 2:5] = 1
    seg[7:9, 7:9, 3] = 4
    return image, seg


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "brats"
    for seed, (name, ending) in enumerate([("BraTS2021_00006", "seg"), ("Brats18_2013_21_1", "autoseg")]):
        image, seg = head(seed)
        save(root / name / f"{name}_flair.nii.gz", image)
        save(root / name / f"{name}_t1ce.nii.gz", image[::-1])
        save(root / name / f"{name}_{ending}.nii.gz", seg)
    return root


def prepared(source, out, **options):
    return prepare_brats(source, out, progress=False, **options)


def manifest(out):
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def names(out, part="imageSlice"):
    return sorted(path.name for path in (out / part).iterdir())


def test_several_modalities_are_channels_each_in_its_own_window(source, tmp_path):
    both = prepared(source, tmp_path / "both", modality="t1gd,flair")
    assert both.patients == 2
    for k, name in enumerate(("t1ce", "flair")):
        prepared(source, tmp_path / name, modality=name)
        for file in names(tmp_path / "both"):
            one, stack = (np.load(tmp_path / part / "imageSlice" / file) for part in (name, "both"))
            assert stack.shape == (2, 20, 24)
            np.testing.assert_array_equal(stack[k], one)
    assert names(tmp_path / "both") == names(tmp_path / "flair")
    assert manifest(tmp_path / "both")[0]["modality"] == "t1ce+flair"
    assert json.loads((tmp_path / "both" / "dataset.json").read_text())["modalities"] == ["t1ce", "flair"]
    assert [finding.kind for finding in check_dataset(tmp_path / "both").errors] == []
    with pytest.raises(DataError, match=r"has no t2"):
        prepared(source, tmp_path / "missing", modality="flair,t2")
    with pytest.raises(ConfigError, match="twice"):
        prepared(source, tmp_path / "twice", modality="t1c,t1gd")


def test_names_values_masks_and_manifest(source, tmp_path):
    out = tmp_path / "out"
    summary = prepared(source, out, window="none", dtype="source")
    assert (summary.patients, summary.written, summary.slices, summary.positive) == (2, 2, 12, 6)
    assert names(out) == names(out, "maskSlice")
    assert "BRATS_BraTS2021-00006_3_1.npy" in names(out)
    assert "BRATS_Brats18-2013-21-1_1_0.npy" in names(out)
    image, seg = head(1)
    for row in manifest(out):
        index = int(row["slice"])
        assert row["file"] == f"BRATS_{row['patient']}_{index}_{row['label']}.npy"
        if row["patient"].startswith("Brats18"):
            np.testing.assert_array_equal(np.load(out / "imageSlice" / row["file"]), image[..., index])
            mask = np.load(out / "maskSlice" / row["file"])
            assert mask.dtype == np.uint8
            np.testing.assert_array_equal(mask, seg[..., index] > 0)
            assert int(row["area"]) == (seg[..., index] > 0).sum()
            assert row["source"].endswith("Brats18_2013_21_1_flair.nii.gz")
            assert float(row["spacing_row"]) == 1.0
    record = json.loads((out / "dataset.json").read_text())
    assert record["phantom"] is False
    assert record["modality"] == "flair"
    assert (summary.automatic, record["automatic_masks"]) == (["Brats18-2013-21-1"], ["Brats18-2013-21-1"])
    report = check_dataset(out)
    assert report.ok
    assert {finding.kind for finding in report.warnings} == {"automatic-masks", "patients"}


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".MHA"])
def test_other_scans_give_the_same_slices(source, tmp_path, suffix):
    prepared(source, tmp_path / "nifti")
    for path in sorted(source.rglob("*.nii.gz")):
        values, geometry = read_scan(path)
        write_scan(str(path).replace(".nii.gz", suffix), values, affine=geometry.affine)
        path.unlink()
    prepared(source, tmp_path / "other")
    assert names(tmp_path / "other") == names(tmp_path / "nifti")
    for part in ("imageSlice", "maskSlice"):
        for name in names(tmp_path / "nifti"):
            found, expected = (np.load(tmp_path / kind / part / name) for kind in ("other", "nifti"))
            np.testing.assert_array_equal(found, expected)
    rows = [[{**row, "source": ""} for row in manifest(tmp_path / kind)] for kind in ("other", "nifti")]
    assert rows[0] == rows[1]


def test_case_folders_may_be_links_even_in_a_circle(source, tmp_path):
    farm = tmp_path / "farm"
    farm.mkdir()
    for folder in source.iterdir():
        (farm / folder.name).symlink_to(folder)
    (farm / "again").symlink_to(farm)
    assert prepared(farm, tmp_path / "out").patients == 2


def test_a_manual_segmentation_goes_before_an_automatic_one(source, tmp_path):
    name = "Brats18_2013_21_1"
    save(source / name / f"{name}_seg.nii.gz", np.zeros((20, 24, 8), np.uint8))
    summary = prepared(source, tmp_path / "out")
    assert (summary.positive, summary.automatic) == (3, [])


@pytest.mark.parametrize(("tumour", "labels"), [("whole", (1, 2, 4)), ("core", (1, 4)), ("enhancing", (4,))])
def test_masks_stack_back_to_the_chosen_region_of_the_segmentation(source, tmp_path, tumour, labels):
    out = tmp_path / "out"
    prepared(source, out, tumour=tumour)
    assert json.loads((out / "dataset.json").read_text())["solid"] is (tumour != "enhancing")
    rows = [row for row in manifest(out) if row["patient"] == "BraTS2021-00006"]
    masks = {int(row["slice"]): np.load(out / "maskSlice" / row["file"]) for row in rows}
    found = nib.load(stack_to_nifti(masks, rows[0]["source"], tmp_path / "back.nii.gz"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.isin(head(0)[1], labels))
    np.testing.assert_array_equal(found.affine, AFFINE)


def test_windows_and_types(source, tmp_path):
    image, _ = head(0)
    expected = {
        "float32": (image / image.max()).astype(np.float32),
        "uint8": np.rint(image / image.max() * 255).astype(np.uint8),
    }
    for dtype, volume in expected.items():
        out = tmp_path / dtype
        prepared(source, out, dtype=dtype, brain_only=False)
        for row in manifest(out)[:8]:
            stored = np.load(out / "imageSlice" / row["file"])
            assert stored.dtype == dtype
            np.testing.assert_array_equal(stored, volume[..., int(row["slice"])])
    out = tmp_path / "percentile"
    prepared(source, out, window="percentile")
    low, high = np.percentile(image[image != 0], (0.5, 99.5))
    stored = np.load(out / "imageSlice" / "BRATS_BraTS2021-00006_3_1.npy")
    np.testing.assert_allclose(stored, np.clip((image[..., 3] - low) / (high - low), 0, 1), atol=1e-6)
    with pytest.raises(DataError, match="uint8"):
        prepared(source, tmp_path / "none", window="none", dtype="uint8")
    assert not (tmp_path / "none").exists()


def test_slices_labels_and_modality_by_option(source, tmp_path):
    out = tmp_path / "every"
    assert prepared(source, out, every=2, brain_only=False).slices == 8
    assert {int(row["slice"]) for row in manifest(out)} == {0, 2, 4, 6}
    out = tmp_path / "area"
    assert prepared(source, out, label_rule="area", min_area=50).positive == 0
    assert prepared(source, tmp_path / "area49", label_rule="area", min_area=49).positive == 6
    summary = prepared(source, tmp_path / "share", label_rule="fraction", min_fraction=0.2)
    assert (summary.positive, summary.negative_with_lesion) == (0, 6)
    kinds = {finding.kind for finding in check_dataset(tmp_path / "share").findings}
    assert kinds == {"classes", "patients", "automatic-masks"}, (
        "check reads the rule from dataset.json, so no label disagrees"
    )
    out = tmp_path / "t1gd"
    prepared(source, out, modality="T1Gd", window="none", dtype="source")
    stored = np.load(out / "imageSlice" / "BRATS_BraTS2021-00006_3_1.npy")
    np.testing.assert_array_equal(stored, head(0)[0][::-1, :, 3])


def test_all_problems_at_once_and_nothing_written(source, tmp_path):
    image, seg = head(3)
    save(source / "A" / "A_flair.nii.gz", image)
    save(source / "A" / "A_seg.nii.gz", seg[:-1])
    broken = image.astype(np.float32)
    broken[5, 5, 5] = np.nan
    save(source / "B" / "B_flair.nii.gz", broken)
    save(source / "B" / "B_seg.nii.gz", np.where(seg == 4, 9, seg).astype(np.uint8))
    moved = AFFINE.copy()
    moved[2, 3] = 40
    save(source / "C" / "C_flair.nii.gz", image)
    save(source / "C" / "C_seg.nii.gz", seg, moved)
    save(source / "D" / "D_flair.nii.gz", image)
    (source / "D" / "D_seg.nii.gz").write_bytes(b"broken")
    save(source / "E" / "E_flair.nii.gz", np.zeros_like(image))
    save(source / "E" / "E_seg.nii.gz", seg)
    with pytest.raises(DataError) as caught:
        prepared(source, tmp_path / "out")
    text = str(caught.value)
    for expected in (
        "A: A_seg.nii.gz",
        "B: B_flair.nii.gz contains 1 voxels",
        "B: B_seg.nii.gz contains the values 9",
        "40 mm",
        "D_seg.nii.gz",
        "E: ",
    ):
        assert expected in text
    assert not list(tmp_path.glob("out*"))


def test_volumes_whose_third_axis_is_another_one_are_refused_mirrored_ones_are_not(source, tmp_path):
    for name, affine in {"BraTS2021_00007": AFFINE[:, [0, 2, 1, 3]], "BraTS2021_00008": AFFINE * [-1, 1, 1, 1]}.items():
        image, seg = head(1)
        save(source / name / f"{name}_flair.nii.gz", image, affine)
        save(source / name / f"{name}_seg.nii.gz", seg, affine)
    with pytest.raises(DataError, match="BraTS2021-00007 is stored as LSP") as caught:
        prepared(source, tmp_path / "out")
    assert len(caught.value.problems) == 1


def test_missing_modality_and_ambiguous_files_are_told_together(source, tmp_path):
    image, seg = head(3)
    save(source / "A" / "A_t2.nii.gz", image)
    save(source / "A" / "A_seg.nii.gz", seg)
    save(source / "Brats18_2013_21_1" / "Brats18_2013_21_1-t2f.nii.gz", image)
    save(source / "more" / "Brats18-2013-21-1" / "Brats18-2013-21-1_seg.nii.gz", seg)
    with pytest.raises(DataError) as caught:
        prepared(source, tmp_path / "out")
    text = str(caught.value)
    assert "A has no flair" in text
    assert "flair of Brats18_2013_21_1" in text
    assert "'Brats18-2013-21-1'" in text


def test_cases_without_segmentation_are_left_out_and_told(source, tmp_path):
    save(source / "New" / "New_flair.nii.gz", head(5)[0])
    summary = prepared(source, tmp_path / "out")
    assert list(summary.left_out) == ["New"]
    assert summary.patients == 2
    assert "New" in json.loads((tmp_path / "out" / "dataset.json").read_text())["left_out"]
    for path in source.rglob("*seg.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match=r"3 cases.*segmentation"):
        prepared(source, tmp_path / "other")


def test_a_stopped_preparation_shows_nothing_and_is_continued(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    whole = tmp_path / "whole"
    prepared(source, whole)
    real = os.replace
    moves = []

    def stop(origin, target):
        if "imageSlice" in str(target):
            moves.append(target)
            if len(moves) == 9:  # in the middle of the second patient
                raise KeyboardInterrupt
        real(origin, target)

    monkeypatch.setattr("seewhy.data.prepare.folder.os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, out)
    monkeypatch.undo()
    assert not out.exists()
    loaded = []
    load = builder_module.Builder._cut_case
    monkeypatch.setattr(
        builder_module.Builder, "_cut_case", lambda self, case: loaded.append(case.patient) or load(self, case)
    )
    summary = prepared(source, out)
    assert (summary.kept, summary.written) == (1, 1)
    assert set(loaded) == {"Brats18-2013-21-1"}
    assert not list(tmp_path.glob("out.*"))
    assert (out / "manifest.csv").read_text() == (whole / "manifest.csv").read_text()
    for name in names(whole):
        for part in ("imageSlice", "maskSlice"):
            assert (out / part / name).read_bytes() == (whole / part / name).read_bytes()


def test_a_patient_added_later_joins_and_a_lost_file_is_written_again(source, tmp_path):
    out = tmp_path / "out"
    prepared(source, out)
    image, seg = head(7)
    save(source / "New" / "New_flair.nii.gz", image)
    save(source / "New" / "New_seg.nii.gz", seg)
    (out / "imageSlice" / "BRATS_BraTS2021-00006_3_1.npy").unlink()
    summary = prepared(source, out)
    assert (summary.kept, summary.written, summary.slices) == (1, 2, 18)
    assert check_dataset(out).ok
    again = prepared(source, out)
    assert (again.kept, again.written, again.slices) == (3, 0, 18)


def test_other_settings_are_refused_and_named_until_overwrite(source, tmp_path):
    out = tmp_path / "out"
    prepared(source, out)
    before = (out / "manifest.csv").read_text()
    with pytest.raises(DataError, match=r"every is 1 .*\b2\b.*--overwrite"):
        prepared(source, out, every=2)
    assert (out / "manifest.csv").read_text() == before
    assert prepared(source, out, every=2, overwrite=True).slices == 6
    assert len(names(out)) == 6
    assert not [path.name for path in tmp_path.iterdir() if path.name not in ("brats", "out")]


def test_a_failing_overwrite_keeps_the_old_data_set(source, tmp_path):
    out = tmp_path / "out"
    prepared(source, out)
    before = {name: (out / "imageSlice" / name).read_bytes() for name in names(out)}
    image, seg = head(3)
    save(source / "A" / "A_flair.nii.gz", image)
    save(source / "A" / "A_seg.nii.gz", seg[:-1])
    with pytest.raises(DataError):
        prepared(source, out, every=2, overwrite=True)
    assert before == {name: (out / "imageSlice" / name).read_bytes() for name in names(out)}


def test_a_changed_source_is_not_mixed_in(source, tmp_path):
    out = tmp_path / "out"
    prepared(source, out)
    save(source / "BraTS2021_00006" / "BraTS2021_00006_flair.nii.gz", head(9)[0])
    with pytest.raises(DataError, match=r"BraTS2021-00006.*--overwrite"):
        prepared(source, out)


def test_foreign_folders_are_never_touched_not_even_with_overwrite(source, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="seewhy prepare"):
        prepared(source, out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"
    with pytest.raises(DataError, match="is a file"):
        prepared(source, out / "thesis.txt")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"modality": "flare"}, "'flair'"),
        ({"tumour": "hole"}, "'whole'"),
        ({"window": "minmx"}, "'minmax'"),
        ({"dtype": "float31"}, "'float32'"),
        ({"dtype": "source"}, "window='none'"),
        ({"label_rule": "fractoin"}, "'fraction'"),
        ({"min_area": 5}, "min_area|min_fraction"),
        ({"label_rule": "area"}, "min_area"),
        ({"every": 0}, "every=0"),
    ],
)
def test_bad_options(source, tmp_path, options, text):
    with pytest.raises(ConfigError, match=text):
        prepared(source, tmp_path / "out", **options)


def test_no_cases_and_no_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        prepared(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="imagesTr/"):
        prepared(tmp_path / "empty", tmp_path / "out")


@pytest.fixture
def decathlon(tmp_path):
    """MSD Task01: four channels in one file, other label values, channels in an order of their own."""
    root = tmp_path / "Task01"
    image, seg = head(0)
    swapped = np.select([seg == 2, seg == 1, seg == 4], [1, 2, 3], 0).astype(np.uint8)
    channels = np.stack([image, image + 1, image[::-1], image[:, ::-1]], axis=-1)
    for case in ("BRATS_001", "BRATS_010"):
        save(root / "imagesTr" / f"{case}.nii.gz", channels)
        save(root / "labelsTr" / f"{case}.nii.gz", swapped)
    (root / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"what macOS leaves in the archive")
    record = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    (root / "dataset.json").write_text(json.dumps(record))
    return root


@pytest.mark.parametrize(("tumour", "labels"), [("whole", (1, 2, 4)), ("core", (1, 4)), ("enhancing", (4,))])
def test_decathlon_channel_and_labels_by_name(decathlon, tmp_path, tumour, labels):
    out = tmp_path / "out"
    summary = prepared(decathlon, out, modality="t1ce", tumour=tumour, window="none", dtype="source")
    assert summary.patients == 2
    image, seg = head(0)
    name = "BRATS_001_3_1.npy"
    np.testing.assert_array_equal(np.load(out / "imageSlice" / name), image[::-1, :, 3])
    np.testing.assert_array_equal(np.load(out / "maskSlice" / name), np.isin(seg[..., 3], labels))


def test_decathlon_that_does_not_describe_itself(decathlon, tmp_path):
    record = json.loads((decathlon / "dataset.json").read_text())
    (decathlon / "dataset.json").write_text(json.dumps({**record, "modality": {"0": "FLAIR"}}))
    with pytest.raises(DataError, match=r"4 channels.*dataset\.json.*\b1\b"):
        prepared(decathlon, tmp_path / "out")
    (decathlon / "dataset.json").write_text(json.dumps({**record, "labels": {"0": "background", "1": "x"}}))
    with pytest.raises(DataError, match=r"tumour=.*dataset\.json"):
        prepared(decathlon, tmp_path / "out", tumour="core")
    (decathlon / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"dataset\.json does not exist"):
        prepared(decathlon, tmp_path / "out")


def test_names_of_all_releases():
    assert parse_name(Path("BraTS-GLI-00000-000-t2f.nii.gz")) == ("BraTS-GLI-00000-000", "flair")
    assert parse_name(Path("Brats18_2013_21_1_t1ce.nii.gz")) == ("Brats18_2013_21_1", "t1ce")
    assert parse_name(Path("TCGA-DU-7294_autoseg.nii.gz")) == ("TCGA-DU-7294", "autoseg")
    assert parse_name(Path("UCSF_0004_FLAIR.nii")) == ("UCSF_0004", "flair")
    assert parse_name(Path("._BraTS_1_flair.nii.gz")) is None
    assert parse_name(Path("readme.nii.gz")) is None
    assert [resolve_modality(name) for name in ("T1c", "t1gd", "T2w", "t1n")] == ["t1ce", "t1ce", "t2", "t1"]
    nnunet = {"background": 0, "edema": 1, "non_enhancing": 2, "enhancing": 3}
    assert select_region_labels(nnunet, "core") == {2, 3}
    assert select_region_labels(nnunet, "enhancing") == {3}


def test_new_releases_call_enhancing_tumour_3(tmp_path):
    image, seg = head(0)
    folder = tmp_path / "brats" / "BraTS-GLI-00000-000"
    save(folder / "BraTS-GLI-00000-000-t2f.nii.gz", image)
    save(folder / "BraTS-GLI-00000-000-seg.nii.gz", np.where(seg == 4, 3, seg).astype(np.uint8))
    prepared(tmp_path / "brats", tmp_path / "out", tumour="enhancing")
    mask = np.load(tmp_path / "out" / "maskSlice" / "BRATS_BraTS-GLI-00000-000_3_1.npy")
    np.testing.assert_array_equal(mask, seg[..., 3] == 4)


def test_real_patients_go_there_and_back(samples, tmp_path):
    out = tmp_path / "out"
    summary = prepared(samples / "brats", out, dtype="uint8")
    assert summary.patients == 3
    report = check_dataset(out)
    assert report.ok, report.errors[:3]
    rows = [row for row in manifest(out) if row["patient"] == "TCGA-DU-7294"]
    masks = {int(row["slice"]): np.load(out / "maskSlice" / row["file"]) for row in rows}
    found = nib.load(stack_to_nifti(masks, rows[0]["source"], tmp_path / "back.nii.gz"))
    seg = nib.load(samples / "brats" / "TCGA-DU-7294" / "TCGA-DU-7294_autoseg.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(seg.dataobj) > 0)
    np.testing.assert_array_equal(found.affine, nib.load(rows[0]["source"]).affine)
