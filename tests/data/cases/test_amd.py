import inspect
import json
import os

import nibabel as nib
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from seewhy.data.cases.amd import AMDDataModule
from seewhy.data.cases.planar_image import plane_size, read_plane
from seewhy.data.loaders import Draw
from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Display
from seewhy.io.image import write_image
from seewhy.io.nifti import write_nifti

INPUTS = ("mnv", "fluid", "ga", "drusen")
SPLIT = {"val_patients": ["P6", "P7"], "test_patients": ["P8", "P9", "P10"]}
AUGMENTATION = {"flip": 0.5, "flip_vertical": 0.5, "rotate": 20, "shift": 0.1, "scale": [0.8, 1.2], "gain": 0.2}


def write_eyes(root, count=10, size=(24, 20), grade=lambda number: number % 4):
    """Eyes P1_L, P1_R, P2_L …: noise in four images, and a table with grades and patients."""
    root.mkdir()
    rows = ["caseID,label,patient"]
    for number in range(2 * count):
        name = f"P{number // 2 + 1}_{'LR'[number % 2]}"
        rng = np.random.default_rng(number)
        for key in INPUTS:
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(root / f"{name}_{key}.png")
        rows.append(f"{name},{grade(number)},{name.split('_')[0]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    return write_eyes(tmp_path_factory.mktemp("amd") / "eyes")


def module(root, **options):
    return AMDDataModule(**{"root": str(root), "batch_size": 4, "eval_batch_size": 4, **SPLIT, **options})


def problems_of(call):
    with pytest.raises(DataError) as caught:
        call()
    return caught.value.problems


# -- batches ---------------------------------------------------------------------------------------------------


def test_training_batch(eyes):
    data = module(eyes, augmentation=AUGMENTATION)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert [batch["image"][key].shape for key in INPUTS] == [(4, 1, 24, 20)] * 4
    assert {batch["image"][key].dtype for key in INPUTS} == {torch.float32}
    assert batch["image"]["present"].tolist() == [[True] * 4] * 4
    assert batch["label"].dtype == torch.int64
    assert batch["label"].shape == (4,)
    assert "mask" not in batch
    assert set(batch["patient"]).isdisjoint({"P6", "P7", "P8", "P9", "P10"})


def test_evaluation_batches_hold_every_case_once_as_it_is_stored(eyes):
    data = module(eyes, augmentation=AUGMENTATION, predict_on="all")
    batches = list(data.predict_dataloader())
    assert [len(batch["id"]) for batch in batches] == [4] * 5
    names = [name for batch in batches for name in batch["id"]]
    assert names == [case.id for case in data.cases]
    stored = np.asarray(Image.open(eyes / f"{names[5]}_ga.png"), np.float32) / np.float32(255)
    assert torch.equal(batches[1]["image"]["ga"][1, 0], torch.from_numpy(stored))
    assert batches[1]["source"][1] == str(eyes / f"{names[5]}_mnv.png")
    assert batches[1]["label"].tolist() == [0, 1, 2, 3]
    placement = batches[1]["placement"][1]
    assert (placement.shape, placement.grid) == ((24, 20), (24, 20))


def test_all_images_of_a_case_are_changed_alike(tmp_path):
    root = write_eyes(tmp_path / "same", count=3)
    for path in root.glob("*_mnv.png"):
        for key in INPUTS[1:]:
            (root / path.name.replace("mnv", key)).write_bytes(path.read_bytes())
    data = AMDDataModule(root=str(root), augmentation=AUGMENTATION, fractions=(1, 0, 0), batch_size=6)
    plain = AMDDataModule(root=str(root), fractions=(1, 0, 0), batch_size=6, predict_on="all")
    batch, stored = next(iter(data.train_dataloader())), next(iter(plain.predict_dataloader()))
    first = batch["image"]["mnv"]
    assert all(torch.equal(batch["image"][key], first) for key in INPUTS)
    order = [stored["id"].index(name) for name in batch["id"]]
    assert (first - stored["image"]["mnv"][order]).abs().mean() > 0.05


def test_a_resumed_run_sees_what_an_unbroken_one_does(eyes):
    def epochs(*numbers, first=0, workers=0):
        data = module(eyes, augmentation=AUGMENTATION, num_workers=workers)
        data.first_epoch = first
        data.setup("fit")
        loader = data.train_dataloader()
        found = []
        for number in numbers:
            loader.sampler.set_epoch(number)
            found += [(batch["id"], batch["image"]["fluid"]) for batch in loader]
        return found

    whole, resumed = epochs(0, 1, 2), epochs(1, 2, first=1, workers=1)
    assert len(whole) == 3 * (len(resumed) // 2)
    for (ids, images), (again, others) in zip(whole[len(resumed) // 2 :], resumed, strict=True):
        assert ids == again
        assert torch.equal(images, others)
    assert not torch.equal(whole[0][1], whole[2][1])


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_case_is_tested_once_whatever_the_ranks(eyes, ranks, monkeypatch):
    seen, validated = [], []
    for rank in range(ranks):
        monkeypatch.setattr(
            "seewhy.data.base.ranks_of", lambda trainer, rank=rank: {"num_replicas": ranks, "rank": rank}
        )
        data = module(eyes)
        seen += [name for batch in data.test_dataloader() for name in batch["id"]]
        validated.append([name for batch in data.val_dataloader() for name in batch["id"]])
    assert sorted(seen) == sorted(case.id for case in data.items_of("test"))
    assert len({len(names) for names in validated}) == 1, "loops with collectives need the same number on every rank"
    assert {name for names in validated for name in names} == {case.id for case in data.items_of("val")}


def test_lightning_moves_batches_and_predicts_every_case(eyes):
    class Mean(LightningModule):
        def predict_step(self, batch, batch_idx=0):
            return batch["id"], batch["image"]["mnv"].mean((1, 2, 3)), batch["placement"]

    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    found = trainer.predict(Mean(), module(eyes))
    assert sorted(name for names, _, _ in found for name in names) == ["P10_L", "P10_R", "P8_L", "P8_R", "P9_L", "P9_R"]
    assert all(place.shape == (24, 20) for _, _, places in found for place in places)


# -- split -----------------------------------------------------------------------------------------------------


def test_patients_stay_whole_and_the_record_says_it_all(eyes):
    data = module(eyes, val_patients=None, test_patients=None)
    parts = {part: {case.patient for case in data.items_of(part)} for part in ("train", "val", "test")}
    assert parts["train"] | parts["val"] | parts["test"] == {f"P{number}" for number in range(1, 11)}
    assert sum(map(len, parts.values())) == 10
    record = data.split_record()
    assert record["hash"] == data.split.hash
    assert record["made"]["stratified"] is True
    assert record["counts"]["train"]["cases"] == 2 * len(parts["train"])
    assert [record["counts"]["train"][f"class_{k}"] for k in range(4)] == data.class_counts()
    assert record["labels"] == {"normal": 0, "early": 1, "intermediate": 2, "advanced": 3}
    assert json.loads(json.dumps(record)) == record


def test_patients_by_pattern_and_given_folds(eyes):
    (eyes / "folds.csv").write_text(
        "caseID,label,fold\n" + "".join(f"P{n // 2 + 1}_{'LR'[n % 2]},{n % 4},{n // 2 % 5 + 1}\n" for n in range(20))
    )
    data = module(
        eyes, table="folds.csv", patient_pattern=r"^P\d+", fold_column="fold", fold=5,
        val_patients=None, test_patients=None,
    )  # fmt: skip
    assert (data.split.test, data.split.val) == (("P5", "P10"), ("P1", "P6"))
    assert data.split_record()["made"] == {"by": "fold_column", "fold": 5, "val_fold": 1, "num_folds": 5}
    # Without the pattern both eyes of a patient would count as patients of their own.
    alone = AMDDataModule(root=str(eyes), table="folds.csv")
    assert len({case.patient for case in alone.cases}) == 20


def test_tables_of_their_own_for_validation_and_test(eyes, tmp_path):
    lines = (eyes / "labels.csv").read_text().splitlines()
    for name, chosen in (("train", lines[1:13]), ("val", lines[13:17]), ("test", lines[17:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([lines[0], *chosen]))
    tables = {"table": str(tmp_path / "train.csv"), "test_table": str(tmp_path / "test.csv")}
    data = AMDDataModule(root=str(eyes), **tables, val_table=str(tmp_path / "val.csv"))
    assert (data.split.val, data.split.test) == (("P7", "P8"), ("P9", "P10"))
    assert data.split.train == tuple(f"P{number}" for number in range(1, 7))
    assert len(AMDDataModule(root=str(eyes), **tables, fractions=(0.5, 0.5, 0)).split.val) == 3
    (tmp_path / "test.csv").write_text("\n".join([lines[0], *lines[12:]]))  # P6's right eye, in both tables
    problems = problems_of(lambda: AMDDataModule(root=str(eyes), **tables).cases)
    assert len(problems) == 2
    assert "'P6_R'" in problems[0]
    assert "train.csv row 13, test.csv row 2" in problems[0]
    assert "patient 'P6'" in problems[1]
    assert "none in train.csv row 12, test in test.csv row 2" in problems[1]
    (tmp_path / "test.csv").write_text("caseID,label\nP9_L,0\n")
    problems = problems_of(lambda: AMDDataModule(root=str(eyes), **tables).cases)
    assert problems == ["test.csv has no column 'patient', other tables have; add it, or set data.patient_pattern"]


def test_chosen_cases_only(eyes):
    data = module(eyes)
    assert data.sample_ids("val") == ["P6_L", "P6_R", "P7_L", "P7_R"]
    assert data.sample_ids("predict") == data.sample_ids("test")
    loader = data.loader_of(["P7_L", "P6_R", "P1_L"], "val")
    assert [name for batch in loader for name in batch["id"]] == ["P6_R", "P7_L"]
    data.only = ["P9_R"]
    assert [batch["id"] for batch in data.predict_dataloader()] == [["P9_R"]]


def test_fingerprint_follows_labels_and_files(tmp_path):
    root = write_eyes(tmp_path / "set", count=4)
    first = AMDDataModule(root=str(root)).fingerprint()
    assert AMDDataModule(root=str(root)).fingerprint() == first
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("P1_L,0", "P1_L,3"))
    assert AMDDataModule(root=str(root)).fingerprint() != first
    (root / "labels.csv").write_text(table)
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(root / "P1_L_ga.png")
    assert AMDDataModule(root=str(root)).fingerprint() != first


# -- scales ----------------------------------------------------------------------------------------------------


def one_eye(root, write, **options):
    """The first case of a data set whose images `write(folder, input)` has made."""
    root.mkdir()
    for key in INPUTS:
        write(root, key)
    (root / "labels.csv").write_text("caseID,label\na,0\n")
    data = AMDDataModule(root=str(root), predict_on="all", **options)
    data.setup("predict")
    return next(iter(data.predict_dataloader()))


VALUES = np.array([[0, 1, 2], [5, 6, 255]], np.uint8)


def test_biomarker_scale(tmp_path):
    batch = one_eye(
        tmp_path / "bio", lambda root, key: Image.fromarray(VALUES).save(root / f"a_{key}.png"), normalize="bio"
    )
    expected = {
        "mnv": VALUES / np.float32(255),
        "fluid": [[0, 0, 0], [0, 1, 1]],
        "ga": [[0, 0.5, 1], [2.5, 3, 127.5]],
        "drusen": [[0, 1, 1], [1, 1, 1]],
    }
    for key, values in expected.items():
        assert torch.equal(batch["image"][key][0, 0], torch.tensor(values, dtype=torch.float32)), key


@pytest.mark.parametrize(
    ("array", "top"),
    [(VALUES, 255), (VALUES.astype(np.uint16) * 257, 65535), (VALUES / np.float32(255), 1), (VALUES.astype(int), 255)],
)
def test_full_scale_of_every_type(tmp_path, array, top):
    batch = one_eye(tmp_path / "set", lambda root, key: np.save(root / f"a_{key}.npy", array), extension=".npy")
    assert torch.equal(batch["image"]["ga"][0, 0], torch.from_numpy((array / np.float32(top)).astype(np.float32)))


def test_sixteen_bit_png_and_robust_scale(tmp_path):
    ramp = np.arange(0, 60000, 6, dtype=np.uint16).reshape(100, 100)
    batch = one_eye(
        tmp_path / "set", lambda root, key: Image.fromarray(ramp).save(root / f"a_{key}.png"), normalize="robust"
    )
    low, high = np.percentile(ramp, [0.5, 99.5])
    expected = np.clip((ramp.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    assert torch.allclose(batch["image"]["mnv"][0, 0], torch.from_numpy(expected))
    flat = one_eye(
        tmp_path / "flat", lambda root, key: np.save(root / f"a_{key}.npy", np.full((8, 8), 7.0)),
        normalize="robust", extension=".npy",
    )  # fmt: skip
    assert flat["image"]["mnv"].abs().max() == 0


def test_values_outside_the_scale_are_refused(tmp_path):
    def write(root, key):
        np.save(root / f"a_{key}.npy", VALUES.astype(np.float32))

    with pytest.raises(DataError, match=r"a_mnv.npy holds float32 values from 0 to 255; .*normalize=robust or none"):
        one_eye(tmp_path / "set", write, extension=".npy")
    batch = one_eye(tmp_path / "raw", write, extension=".npy", normalize="none")
    assert batch["image"]["mnv"][0, 0, 1].tolist() == [5, 6, 255]


def test_resized_images_and_masks_come_with_the_way_back(tmp_path):
    y = np.repeat(np.arange(40, dtype=np.uint8)[:, None] * 6, 30, axis=1)

    def write(root, key):
        Image.fromarray(y).save(root / f"a_{key}.png")
        (root / "masks").mkdir(exist_ok=True)

    root = tmp_path / "set"
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20, 12:18] = 255
    root.mkdir()
    for key in INPUTS:
        write(root, key)
    Image.fromarray(mask).save(root / "masks" / "a_fluid_mask.png")
    (root / "labels.csv").write_text("caseID,label\na,0\n")
    data = AMDDataModule(root=str(root), predict_on="all", image_size=[20, 10])
    batch = next(iter(data.predict_dataloader()))
    assert batch["image"]["mnv"].shape == (1, 1, 20, 10)
    assert batch["mask"]["fluid"].dtype == torch.uint8
    expected = torch.zeros(20, 10, dtype=torch.uint8)
    expected[5:10, 4:6] = 1
    assert torch.equal(batch["mask"]["fluid"][0], expected)
    assert batch["mask"]["mnv"].shape == (1, 20, 10)
    assert batch["mask"]["mnv"].sum() == 0
    back = batch["placement"][0].restore(batch["image"]["mnv"][0, 0].numpy())
    assert back.shape == (40, 30)
    assert np.abs(255 * back - y)[4:-4].max() < 3.1  # a ramp survives but for its ends
    assert "mask" not in next(iter(AMDDataModule(root=str(root), predict_on="all", masks=None).predict_dataloader()))


def test_annotations_and_images_of_other_names_are_named(tmp_path):
    root = write_eyes(tmp_path / "eyes")
    (root / "masks").mkdir()
    for name in ("P6_L_ga_mask.PNG", "P7_L_ga.png", "P8_R_ga_mask.png"):
        Image.fromarray(np.zeros((24, 20), np.uint8)).save(root / "masks" / name)
    with pytest.warns(UserWarning, match=r"2 files \(P6_L_ga_mask\.PNG, P7_L_ga\.png\) left out"):
        module(root).setup("fit")
    (root / "P6_L_ga.png").rename(root / "P6_L_ga.PNG")
    (root / "P7_R_ga.png").rename(root / "p7_R_ga.png")
    stated = problems_of(lambda: module(root).setup("fit"))
    assert "P6_L_ga.PNG does; set data.extension=.PNG" in stated[0]
    assert "p7_R_ga.png does; names must agree in capitals" in stated[1]


def write_masks(root, *masks):
    write_eyes(root)
    (root / "masks").mkdir()
    for path, mask in zip(sorted(root.glob("*_ga.png")), masks, strict=False):
        Image.fromarray(np.asarray(mask, np.uint8)).save(root / "masks" / f"{path.stem}_mask.png")


def test_values_of_annotations_are_decided_for_all_of_them(tmp_path):
    block = np.zeros((24, 20))
    block[5:15, 5:15] = 1
    write_masks(tmp_path / "classes", block, 2 * block)
    with pytest.raises(DataError, match=r"classes/masks: .*values 0, 1, 2.*unclear which"):
        module(tmp_path / "classes").setup("fit")
    edges = 255 * block
    edges[4, 5:15] = 100  # interpolated: below half
    write_masks(tmp_path / "edges", edges, 255 * block)
    data = module(tmp_path / "edges", predict_on="all")
    data.setup("predict")
    masks = [batch["mask"]["ga"] for batch in data.predict_dataloader()]
    assert sum(int(mask.sum()) for mask in masks) == 200
    write_masks(tmp_path / "ones", block, 255 * block)  # of two programs
    data = module(tmp_path / "ones", predict_on="all")
    data.setup("predict")
    assert sum(int(batch["mask"]["ga"].sum()) for batch in data.predict_dataloader()) == 200


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nothing"])
@pytest.mark.parametrize("place", ["image", "annotation"])
def test_what_is_no_file_is_not_a_missing_one(tmp_path, kind, place):
    """`missing: allow` would leave out an image that git-annex has not fetched, without a word."""
    tmp_path = tmp_path / "set"
    write_masks(tmp_path, np.zeros((24, 20)))
    path = sorted(tmp_path.glob("*_ga.png"))[0]
    path = path if place == "image" else tmp_path / "masks" / f"{path.stem}_mask.png"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "../.git/annex/objects/x")
    for missing in ("error", "allow"):
        with pytest.raises(DataError, match=rf"{path.name} is a {kind.split()[0]}"):
            module(tmp_path, missing=missing).setup("fit")


def test_annotations_of_another_shape_than_their_image_are_refused_before_training(tmp_path):
    root = write_eyes(tmp_path / "eyes")
    (root / "masks").mkdir()
    for name, size in {"P6_L": (24, 20), "P7_L": (48, 40), "P8_R": (20, 24)}.items():
        Image.fromarray(np.zeros(size, np.uint8)).save(root / "masks" / f"{name}_ga_mask.png")
    stated = problems_of(lambda: module(root).setup("fit"))
    assert ["48x40, its image 24x20" in stated[0], "20x24, its image 24x20" in stated[1]] == [True, True]
    (turned,) = problems_of(lambda: module(root, image_size=16).setup("fit"))
    assert "P8_R_ga_mask.png is 20x24" in turned


# -- files -----------------------------------------------------------------------------------------------------


def test_colour_is_refused_in_words_and_grey_in_three_channels_is_grey(tmp_path):
    grey = np.repeat(VALUES[..., None], 3, axis=2)
    colour = grey.copy()
    colour[0, 0, 1] = 9
    batch = one_eye(tmp_path / "grey", lambda root, key: Image.fromarray(grey).save(root / f"a_{key}.png"))
    assert torch.equal(batch["image"]["ga"][0, 0], torch.from_numpy(VALUES / np.float32(255)))

    def write(root, key):
        Image.fromarray(colour if key == "ga" else VALUES).save(root / f"a_{key}.png")

    with pytest.raises(DataError, match=r"row 2 \(case a\): .*a_ga.png is a colour picture; .* data.channels=3"):
        one_eye(tmp_path / "colour", write)
    batch = one_eye(tmp_path / "three", write, channels=3)
    assert batch["image"]["ga"].shape == (1, 3, 2, 3)
    assert torch.equal(batch["image"]["ga"][0], torch.from_numpy(np.moveaxis(colour, 2, 0) / np.float32(255)))


def manifest(eyes, tmp_path, rows):
    table = tmp_path / "manifest.csv"
    table.write_text("eye;grade;" + ";".join(f"{key}_file" for key in INPUTS) + "\n" + "\n".join(rows) + "\n")
    return {
        "root": str(eyes), "table": str(table), "id_column": "eye", "label_column": "grade",
        "file_columns": {key: f"{key}_file" for key in INPUTS}, "predict_on": "all",
    }  # fmt: skip


def test_manifest_with_declared_gaps(eyes, tmp_path):
    Image.fromarray(np.full((24, 20), 51, np.uint8)).save(tmp_path / "beside.tif")
    rows = ["x;early;P1_L_mnv.png;;beside.tif;P1_L_drusen.png", f"y;3;;{eyes}/P2_L_fluid.png;;"]
    data = AMDDataModule(**manifest(eyes, tmp_path, rows))
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    assert batch["label"].tolist() == [1, 3]
    assert batch["image"]["present"].tolist() == [[True, False, True, True], [False, True, False, False]]
    assert batch["image"]["fluid"][0].abs().max() == 0
    assert torch.equal(batch["image"]["ga"][0], torch.full((1, 24, 20), 51 / 255))
    assert batch["source"] == [str(eyes / "P1_L_mnv.png"), str(eyes / "P2_L_fluid.png")]


def test_missing_images_stay_zero_in_training(eyes, tmp_path):
    rows = [f"P{n}_{s};{n % 4};;P{n}_{s}_fluid.png;P{n}_{s}_ga.png;" for n in range(1, 11) for s in "LR"]
    data = AMDDataModule(
        **manifest(eyes, tmp_path, rows), augmentation={"offset": 0.9, "noise": 0.5}, fractions=(1, 0, 0)
    )
    batch = next(iter(data.train_dataloader()))
    assert batch["image"]["mnv"].abs().max() == 0
    assert batch["image"]["fluid"].abs().min() < batch["image"]["fluid"].abs().max()


def test_undeclared_gaps_are_all_told_with_row_and_file(tmp_path):
    root = write_eyes(tmp_path / "set", count=3)
    (root / "P1_R_ga.png").unlink()
    (root / "P2_L_mnv.png").rename(root / "P2_L_mnv.tif")
    for key in INPUTS:
        (root / f"P3_L_{key}.png").unlink()
    problems = problems_of(lambda: AMDDataModule(root=str(root)).cases)
    assert problems[:2] == [
        f"labels.csv, row 3 (case P1_R): {root}/P1_R_ga.png does not exist; data.missing=allow accepts cases without "
        "some inputs",
        f"labels.csv, row 4 (case P2_L): {root}/P2_L_mnv.png does not exist, but P2_L_mnv.tif does; set "
        "data.extension=.tif",
    ]
    assert len(problems) == 6
    allowed = problems_of(lambda: AMDDataModule(root=str(root), missing="allow").cases)
    assert allowed == ["labels.csv, row 6 (case P3_L): none of its inputs exists"]


def test_damaged_and_differing_files_are_named_before_training(tmp_path):
    root = write_eyes(tmp_path / "set", count=6)
    whole = (root / "P1_L_ga.png").read_bytes()
    (root / "P1_L_ga.png").write_bytes(whole[: len(whole) // 2])
    (root / "P2_L_ga.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 20), np.uint8)).save(root / "P3_R_fluid.png")
    data = AMDDataModule(root=str(root))
    problems = problems_of(lambda: data.setup("fit"))
    found = "\n".join(sorted(problems))
    assert len(problems) == 3
    assert "row 2 (case P1_L)" in found
    assert "P1_L_ga.png is truncated or damaged" in found
    assert "row 4 (case P2_L)" in found
    assert "row 7 (case P3_R): fluid is 8x20, most are 24x20; set data.image_size to resize all" in found
    resized = AMDDataModule(root=str(root), image_size=16)
    assert len(problems_of(lambda: resized.setup("fit"))) == 2


def test_nifti_planes_lie_as_png_do(eyes, tmp_path):
    picture = np.arange(480, dtype=np.uint8).reshape(20, 24)
    write_image(tmp_path / "a.png", picture)
    write_nifti(tmp_path / "a.nii.gz", picture.T[..., None], affine=np.eye(4))  # its first axis is x
    data = AMDDataModule(**manifest(tmp_path, tmp_path, ["x;0;a.nii.gz;a.png;a.nii.gz;a.png"]))
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    for name in data.inputs:
        assert torch.equal(batch["image"][name][0, 0], torch.from_numpy(picture / np.float32(255)))
    assert data.display_of("x") == Display()
    placement = batch["placement"][0]
    assert (placement.shape, placement.grid) == ((24, 20), (20, 24))
    np.testing.assert_array_equal(placement.restore(picture.astype(np.float32)), picture.T)  # as in the file
    small = AMDDataModule(**manifest(tmp_path, tmp_path, ["x;0;a.nii.gz;a.png;a.nii.gz;a.png"]), image_size=[10, 6])
    small.setup("predict")
    resized = next(iter(small.predict_dataloader()))["image"]
    assert torch.equal(resized[data.inputs[0]], resized[data.inputs[1]])


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (1, 9, 7), (9, 1, 7), (9, 7, 3), (9, 7, 1, 3), (3, 9, 7)])
def test_nifti_of_one_plane_or_of_colours(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    channels = shape.count(3) * 2 + 1
    stored = np.moveaxis(values, 0, -1) if shape[0] == 3 else values
    expected = stored.reshape(9, 7, channels).transpose(2, 1, 0)
    np.testing.assert_array_equal(read_plane(path, channels=channels).values, expected)
    assert plane_size(path, channels=channels) == (7, 9)


def test_a_nifti_volume_is_no_plane(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.zeros((9, 7, 5), np.uint8), affine=np.eye(4))
    with pytest.raises(DataError, match=r"a\.nii has shape \(9, 7, 5\); expected one plane"):
        read_plane(path)


def test_masks_lie_on_nifti_images(tmp_path):
    picture = np.full((16, 12), 20, np.uint8)
    picture[2:5, 6:11] = 250
    (tmp_path / "masks").mkdir()
    for number in range(12):
        write_nifti(tmp_path / f"e{number}_oct.nii.gz", picture.T[:, :, None], affine=np.eye(4))
        write_image(tmp_path / "masks" / f"e{number}_oct_mask.png", picture > 100)
    (tmp_path / "labels.csv").write_text("caseID,label\n" + "".join(f"e{n},{n % 2}\n" for n in range(12)))
    data = AMDDataModule(root=str(tmp_path), inputs=["oct"], classes=["a", "b"], extension=".nii.gz")
    data.setup("fit")
    sample = data.reader.read_case(data.cases[0], masks=True)
    assert torch.equal(sample["image"]["oct"][0] > 0.5, sample["mask"]["oct"] > 0)
    assert int(sample["mask"]["oct"].sum()) == 15


def test_jpeg_images_and_masks(tmp_path):
    root = tmp_path / "eyes"
    write_eyes(root)
    for path in root.glob("*.png"):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    data = module(root, extension=".jpg")
    data.setup("fit")
    assert next(iter(data.val_dataloader()))["image"]["mnv"].max() > 0
    mask = root / "masks" / "P1_L_mnv_mask.png"
    mask.parent.mkdir()
    Image.fromarray(np.full((24, 20), 255, np.uint8)).save(mask, format="JPEG")
    (problem,) = problems_of(lambda: module(root, extension=".jpg").setup("fit"))
    assert f"{mask.name} is stored as JPEG" in problem


def test_real_planes_from_a_manifest(samples, tmp_path):
    folder = samples / "oct_drusen"
    rows = [f"{path.name[:8]};imagesTr/{path.name};{n % 2}" for n, path in enumerate(sorted(folder.glob("imagesTr/*")))]
    (tmp_path / "oct.csv").write_text("caseID;scan_file;label\n" + "\n".join(rows))
    data = AMDDataModule(
        root=str(folder), table=str(tmp_path / "oct.csv"), inputs=["scan"], file_columns={"scan": "scan_file"},
        image_size=128, classes=None,
    )  # fmt: skip
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch["image"]["scan"].shape[1:] == (1, 128, 128)
    assert 0 <= batch["image"]["scan"].min() < batch["image"]["scan"].max() <= 1
    assert batch["placement"][0].shape == (512, 512)


# -- options ---------------------------------------------------------------------------------------------------


def test_without_labels_there_is_prediction_only(eyes, tmp_path):
    (tmp_path / "new.csv").write_text("caseID\nP1_L\nP2_R\n")
    data = AMDDataModule(root=str(eyes), table=str(tmp_path / "new.csv"), label_column=None, predict_on="all")
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    assert batch["id"] == ["P1_L", "P2_R"]
    assert "label" not in batch
    with pytest.raises(ConfigError, match=r"stage fit needs labels; set data\.label_column"):
        data.setup("fit")


def test_training_on_one_class_is_refused_and_an_absent_one_warned_of(tmp_path):
    one = write_eyes(tmp_path / "one", count=4, grade=lambda number: 2)
    with pytest.raises(DataError, match=r"all of one class \(cases per class: \[0, 0, \d, 0\]\)"):
        AMDDataModule(root=str(one)).setup("fit")
    two = write_eyes(tmp_path / "two", count=6, grade=lambda number: number // 2 % 2)
    with pytest.warns(UserWarning, match="no training case is of class 3"):
        AMDDataModule(root=str(two)).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "otc"}, r"data.normalize='otc' is unknown; nearest: 'oct'"),
        ({"normalize": "bio", "inputs": ["mnv", "oct"]}, "bio has no rule for 'oct'"),
        ({"inputs": []}, "different names"),
        ({"inputs": ["a", "present"]}, "none of them 'present'"),
        ({"file_columns": {"mnv": "a"}}, "one column for each input"),
        ({"missing": "ignore"}, "data.missing='ignore' is unknown"),
        ({"extension": "png"}, r"data.extension='png' is unknown; .*'\.png'"),
        ({"channels": 2}, "must be 1 or 3"),
        ({"image_size": [1, 2, 3]}, r"one side or \[height, width\]"),
        ({"image_size": 0}, "image_size=0 must be 1 or more"),
        ({"eval_batch_size": 0}, "eval_batch_size=0"),
        ({"predict_on": "tst"}, "predict_on='tst' is unknown"),
        ({"split_column": "set", "test_table": "t.csv"}, "two ways to split"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        AMDDataModule(root="somewhere", **options)


def test_missing_columns_of_table_and_manifest_are_told_together(eyes, tmp_path):
    options = manifest(eyes, tmp_path, ["x;0;a;b;c;d"])
    options |= {"id_column": "eyes", "file_columns": {**options["file_columns"], "ga": "ga_fil"}}
    assert problems_of(lambda: AMDDataModule(**options).cases) == [
        "manifest.csv has no column 'eyes' (data.id_column); nearest: 'eye'",
        "manifest.csv has no column 'ga_fil' (data.file_columns.ga); nearest: 'ga_file', 'mnv_file', 'fluid_file'",
    ]


def test_the_signature_names_shared_and_own_options():
    names = inspect.signature(AMDDataModule).parameters
    assert {"inputs", "file_columns", "fold_column", "split_seed", "stratify"} <= set(names)
    assert "shared" not in names
    assert names["id_column"].default == "caseID"


def test_overfitting_modes_give_plain_indices(eyes):
    data = module(eyes, augmentation=AUGMENTATION)
    dataset = data.train_dataloader().dataset
    assert torch.equal(dataset[3]["image"]["mnv"], dataset[Draw(3, 3)]["image"]["mnv"])
