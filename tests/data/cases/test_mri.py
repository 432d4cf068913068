import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from seewhy.data.cases.mri import MRIDataModule
from seewhy.errors import ConfigError, DataError
from seewhy.figures.style import turn_upright
from seewhy.io.nifti import write_nifti, write_nifti_like

LABEL = "HC_vs_LTLE_vs_RTLE_string"
LAS = np.array([[-3.0, 0, 0, 30], [0, 3.0, 0.2, -40], [0, 0, 3.0, -20], [0, 0, 0, 1]])
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "t1" / "t1_crop.nii.gz"


def table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def volume(path, shape=(10, 14, 12), seed=0, affine=LAS):
    values = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        write_nifti(path, values, affine=affine)
    return values


@pytest.fixture
def root(tmp_path):
    """Twelve heads, half of them ill, with annotations for some."""
    rows = []
    for number in range(12):
        name = f"mwp1s{number:02d}_T1.nii.gz"
        volume(tmp_path / name, seed=number)
        mask = np.zeros((10, 14, 12), np.uint8)
        mask[2:5, 3:9, 4:7] = 1
        label = ("HC", "left", "HC", "right")[number % 4]
        if label != "HC":
            write_nifti(tmp_path / f"s{number:02d}_mask.nii.gz", mask, affine=LAS)
        rows.append({"file": name, LABEL: label, "mask": f"s{number:02d}_mask.nii.gz" if label != "HC" else ""})
    table(tmp_path / "cases.csv", rows)
    return tmp_path


def module(root, **options):
    labels = {"HC": 0, "left": 1, "right": 1}
    return MRIDataModule(
        **{
            "root": str(root),
            "table": "cases.csv",
            "label_column": LABEL,
            "labels": labels,
            "axis": "coronal",
            **options,
        }
    )


def problems(root, stage="fit", **options):
    with pytest.raises(DataError) as caught:
        module(root, **options).setup(stage)
    return "\n".join(caught.value.problems)


def test_batches_are_what_the_contract_says(root):
    data = module(root, slices=[2, 11], size=16, pad=1, mask_column="mask", batch_size=4, eval_batch_size=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 9, 18, 18)
    assert batch["image"].dtype == torch.float32
    assert batch["label"].dtype == torch.int64
    assert "mask" not in batch
    assert batch["index"] == [2] * 4
    assert all(name.startswith("s") and "_" not in name for name in batch["id"])
    assert batch["patient"] == batch["id"]
    seen = []
    for batch in data.test_dataloader():
        assert batch["mask"].shape == (len(batch["id"]), 9, 18, 18)
        assert batch["mask"].dtype == torch.uint8
        assert batch["mask"].flatten(1).any(1).tolist() == [bool(label) for label in batch["label"]]
        assert [Path(source).name for source in batch["source"]] == [f"mwp1{name}_T1.nii.gz" for name in batch["id"]]
        torch.testing.assert_close(
            batch["spacing"][0], torch.tensor([3.0, 3 * 10 / 13, 3 * 12 / 16]), atol=0.01, rtol=0
        )
        seen += batch["id"]
    assert sorted(seen) == sorted(data.split.test)


def test_a_mask_is_never_opened_in_training(root):
    (root / "s01_mask.nii.gz").write_bytes(b"spoilt after the check")
    data = module(root, mask_column="mask", train_patients=["s00", "s01"], test_patients=["s03"])
    for batch in data.train_dataloader():
        assert "mask" not in batch
    with pytest.raises(DataError, match=r"s01_mask\.nii\.gz"):
        data.setup("fit")


def test_a_map_lands_on_the_voxel_it_was_made_of(root):
    """From the grid of the model to a NIfTI file on the scan: same affine, same place."""
    data = module(root, slices=[2, 11], size=24, pad=3, predict_on="all", eval_batch_size=3)
    data.setup("predict")
    for batch in data.predict_dataloader():
        for position, placement in enumerate(batch["placement"]):
            scan = nib.load(batch["source"][position])
            grid = np.zeros(placement.grid, np.float32)
            grid[placement.position(6), 3 + 2 + 2 * 4, 3 + 2 * 5] = 1  # voxel (4, 6, 5): 10 rows sit 2 low in 24
            path = write_nifti_like(root / "map.nii.gz", placement.restore(grid), like=placement.source)
            written = nib.load(path)
            np.testing.assert_array_equal(written.affine, scan.affine)
            assert written.shape == scan.shape
            assert np.unravel_index(np.argmax(written.get_fdata()), scan.shape) == (4, 6, 5)


@pytest.mark.parametrize("axis", [0, 1, 2, "axial"])
def test_slice_k_shows_slice_k_of_the_scan(root, axis):
    data = module(root, axis=axis, slices=[3, 9], normalize="none", predict_on="all")
    data.setup("predict")
    number = {"axial": 2}.get(axis, axis)
    for batch in data.predict_dataloader():
        for image, placement, index in zip(batch["image"], batch["placement"], batch["index"], strict=True):
            scan = np.asarray(nib.load(placement.source).dataobj)
            assert index == 3
            for k in range(3, 9):
                np.testing.assert_array_equal(image[0, placement.position(k)], np.take(scan, k, number))
                assert placement.slice_number(k - index) == k


def test_pictures_are_upright(root):
    values = np.zeros((10, 14, 12), np.int16)
    values[9, 5, 11] = 100  # LAS: the patient's left, superior
    write_nifti(root / "mwp1s00_T1.nii.gz", values, affine=LAS)
    data = module(root, normalize="none", train_patients=["s01", "s02"], test_patients=["s00"])
    batch = next(iter(data.test_dataloader()))
    picture = turn_upright(batch["image"][0, 0, 5].numpy(), data.display_of("s00"))
    assert np.unravel_index(picture.argmax(), picture.shape) == (0, 9)  # superior on top, left on the viewer's right


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cache_changes_nothing(root, cache, monkeypatch):
    options = {"slices": [2, 11], "size": 16, "augmentation": {"noise": 0.1}, "predict_on": "all"}
    plain = module(root, **options)
    kept = module(root, **options, cache=cache, cache_dir=str(root / "kept") if cache == "disk" else None)
    for _ in range(2):
        for one, two in zip(plain.train_dataloader(), kept.train_dataloader(), strict=True):
            torch.testing.assert_close(one["image"], two["image"], rtol=0, atol=0)
    expected = [batch["image"] for batch in plain.predict_dataloader()]
    _ = list(kept.predict_dataloader())
    monkeypatch.setattr("seewhy.data.cases.mri_slices.read_values", lambda path: pytest.fail(f"{path} was read again"))
    for image, batch in zip(expected, kept.predict_dataloader(), strict=True):
        torch.testing.assert_close(batch["image"], image, rtol=0, atol=0)


def test_augmentation_depends_on_seed_and_draw_alone(root):
    def images(data):
        return torch.cat([batch["image"] for batch in data.train_dataloader()])

    options = {"augmentation": {}, "train_patients": ["s00", "s01", "s02"], "test_patients": ["s03"]}
    same = [images(module(root, **options, seed=1, num_workers=workers)) for workers in (0, 1)]
    torch.testing.assert_close(*same, rtol=0, atol=0)
    assert not torch.equal(same[0], images(module(root, **options, seed=2)))
    batch = next(iter(module(root, **options).train_dataloader()))
    assert batch["placement"] == [None] * len(batch["id"])  # what was moved has no way back


def test_names_come_from_files_columns_or_patterns(root):
    assert [case.id for case in module(root).cases][:2] == ["s00", "s01"]
    assert module(root, id_pattern=r"mwp1s(\d+)").cases[3].id == "03"
    assert module(root, id_column="file").cases[3].id == "mwp1s03_T1.nii.gz"
    assert "mwp1s00_T1.nii.gz does not match data.id_pattern='sub-" in problems(root, id_pattern=r"sub-(\d+)")
    with pytest.raises(ConfigError, match=r"data\.id_pattern='\(' is not a regular expression"):
        module(root, id_pattern="(")


def test_labels_may_be_unknown_when_predicting(root):
    data = module(root, label_column=None, labels=None, predict_on="all")
    data.setup("predict")
    assert all("label" not in batch for batch in data.predict_dataloader())


def test_all_problems_of_a_table_come_out_at_once(root):
    rows = list(csv.DictReader((root / "cases.csv").open()))
    rows[1][LABEL] = "lefft"
    rows[2]["file"] = "gone.nii.gz"
    rows[3]["mask"] = "gone_mask.nii.gz"
    rows[5]["file"] = rows[4]["file"]
    rows[6]["file"] = ""
    table(root / "cases.csv", rows)
    said = problems(root, mask_column="mask")
    for expected in (
        "cases.csv, row 3 (case s01): the label 'lefft' is unknown; nearest: 'left'",
        "cases.csv, row 4 (case gone): ",
        "gone.nii.gz does not exist",
        "row 5 (case s03)",
        "leave 'mask' empty if there is none",
        "several cases have the name 's04': cases.csv row 6, cases.csv row 7",
        "row 8: 'file' is empty",
    ):
        assert expected in said
    assert "no column 'path' (data.file_column)" in problems(root, file_column="path")
    assert "no column 'masks' (data.mask_column); nearest: 'mask'" in problems(root, mask_column="masks")


def test_all_problems_of_volumes_come_out_at_once(root):
    volume(root / "mwp1s01_T1.nii.gz", shape=(10, 8, 12))
    (root / "mwp1s02_T1.nii.gz").write_bytes(b"\x1f\x8b no volume")
    volume(root / "mwp1s04_T1.nii.gz", affine=np.diag([1.0, -1, -1, 1]) @ LAS)
    write_nifti(root / "s03_mask.nii.gz", np.zeros((9, 14, 12), np.uint8), affine=LAS)
    write_nifti(root / "s05_mask.nii.gz", np.zeros((10, 14, 12), np.uint8), affine=2 * LAS)
    volume(root / "mwp1s06_T1.nii.gz", shape=(11, 14, 12))
    said = problems(root, slices=[2, 11], mask_column="mask")
    for expected in (
        r"cases.csv, row 3 (case s01): ",
        "has 8 slices along axis 1 (shape (10, 8, 12)); data.slices=[2, 11] needs 11",
        "cases.csv, row 4 (case s02): ",
        "cases.csv, row 6 (case s04): ",
        "is stored as LPI, most others as LAS; store all in one orientation",
        "s03_mask.nii.gz has shape (9, 14, 12), its volume",
        "s05_mask.nii.gz does not lie on its volume",
        "cases.csv, row 8 (case s06): ",
        "gives (9, 11, 12) slices, rows and columns, most others (9, 10, 12); set data.size",
    ):
        assert expected in said
    assert said.count("\n") == 5  # nothing twice, nothing else


def test_sizes_may_differ_once_they_are_brought_to_one(root):
    volume(root / "mwp1s06_T1.nii.gz", shape=(11, 15, 17))
    data = module(root, slices=[2, 11], size=16)
    data.setup("fit")
    assert {tuple(batch["image"].shape[1:]) for batch in data.train_dataloader()} == {(1, 9, 16, 16)}


def test_mirroring_needs_to_know_where_left_is(root):
    rows = [{"file": f"n{k}.npy", LABEL: ("HC", "left")[k % 2]} for k in range(8)]
    for k in range(8):
        volume(root / f"n{k}.npy", seed=k)
    table(root / "npy.csv", rows)
    said = problems(root, table="npy.csv", axis=1, augmentation={"flip": 0.5})
    assert "n0.npy does not record which side is left" in said
    data = module(root, table="npy.csv", axis=1)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["spacing"].isnan().all()
    assert "coronal axis is unknown" in problems(root, table="npy.csv")


def test_a_second_table_is_another_part_and_shares_no_patient(root):
    rows = list(csv.DictReader((root / "cases.csv").open()))
    for row in rows:
        row["patient"] = row["file"][4:7]
    table(root / "train.csv", rows[:8])
    table(root / "val.csv", rows[8:])
    data = module(root, table="train.csv", test_table="val.csv", fractions=[0.7, 0.3, 0.0])
    assert data.split.test == ("s08", "s09", "s10", "s11")
    assert {*data.split.train, *data.split.val} == {row["patient"] for row in rows[:8]}
    rows[9]["patient"] = "s01"
    table(root / "val.csv", rows[8:])
    said = problems(root, table="train.csv", test_table="val.csv")
    assert "patient 's01' is in several parts of the split" in said
    assert "test in val.csv row 3" in said


def test_a_batch_moves_with_its_placements(root):
    """Lightning takes apart what it moves; placements must come through a real loop as they are."""
    seen = []

    class Looker(BoringModel):
        def predict_step(self, batch, index):
            seen.extend(zip(batch["id"], batch["placement"], strict=True))

    data = module(root, predict_on="all", slices=[2, 11])
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.predict(Looker(), data, return_predictions=False)
    assert len(seen) == 12
    for name, placement in seen:
        assert Path(placement.source).name == f"mwp1{name}_T1.nii.gz"
        assert placement.crop[0] == (2, 11)
        json.dumps(placement.record())


@pytest.mark.skipif(not REAL.exists(), reason="the shared data are not here")
def test_a_real_head(tmp_path):
    table(tmp_path / "cases.csv", [{"file": str(REAL), LABEL: "HC"}])
    data = module(tmp_path, axis="coronal", slices=[60, 175], size=112, pad=8, predict_on="all", fractions=[1, 0, 0])
    data.setup("predict")
    [batch] = list(data.predict_dataloader())
    assert batch["image"].shape == (1, 1, 115, 128, 128)
    assert batch["id"] == ["t1"]
    scan = nib.load(REAL)
    [placement] = batch["placement"]
    assert scan.shape == placement.shape
    assert nib.aff2axcodes(scan.affine)[placement.axis] in "AP"
    back = placement.restore(batch["image"][0, 0].numpy())
    values = np.asarray(scan.dataobj, np.float32)
    inside = np.zeros(scan.shape, bool)
    np.moveaxis(inside, placement.axis, 0)[60:175] = True
    assert np.corrcoef(back[inside], values[inside])[0, 1] > 0.97  # half the resolution is lost, not the place
