import builtins

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from seewhy.data.slices.datamodule import BraTSDataModule, LASCDataModule
from seewhy.errors import ConfigError, DataError

AUGMENTATION = {"flip": 0.5, "shift": 0.1, "scale": [0.8, 1.25]}
SPLIT = {"val_patients": ["007"], "test_patients": ["008", "002"]}


def module(root, **options):
    return BraTSDataModule(**{"root": str(root), "batch_size": 4, "augmentation": AUGMENTATION, **SPLIT, **options})


def train_loader(root, epoch=0, **options):
    data = module(root, **options)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return loader


def test_training_batch(slice_set):
    batch = next(iter(train_loader(slice_set, crop_size=24)))
    assert batch["image"].shape == (4, 1, 24, 24)
    assert batch["image"].dtype == torch.float32
    assert batch["label"].shape == (4, 1)
    assert [float(name.endswith("_1")) for name in batch["id"]] == batch["label"][:, 0].tolist()
    assert set(batch["patient"]).isdisjoint({"007", "008", "002"})
    assert "mask" not in batch


def masks_of_training(root):
    """Mask files of the training patients."""
    patients = module(root).split.train
    found = [path for path in (root / "maskSlice").iterdir() if path.name.split("_")[1] in patients]
    assert len(found) == 6 * len(patients)
    return found


def test_masks_are_never_opened_in_training(slice_set, monkeypatch):
    opened = []
    real_open, real_load = builtins.open, np.load
    monkeypatch.setattr(builtins, "open", lambda file, *a, **k: opened.append(str(file)) or real_open(file, *a, **k))
    monkeypatch.setattr(np, "load", lambda file, *a, **k: opened.append(str(file)) or real_load(file, *a, **k))
    loader = train_loader(slice_set)
    first = f"{slice_set} batches"
    opened.append(first)
    for batch in loader:
        assert "mask" not in batch
    assert any("imageSlice" in name for name in opened)
    # Before a run, the files of validation and test are looked at; no mask of a training patient ever is.
    assert not set(opened) & {str(path) for path in masks_of_training(slice_set)}
    assert not any("maskSlice" in name for name in opened[opened.index(first) :])


def test_training_works_when_masks_cannot_be_read(slice_set):
    for path in masks_of_training(slice_set):
        path.write_bytes(b"")
    assert len(list(train_loader(slice_set))) == 7  # 5 patients x 6 slices in batches of 4, rounded down
    for path in (slice_set / "maskSlice").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"maskSlice.*is empty"):
        next(iter(module(slice_set).val_dataloader()))
    with pytest.raises(DataError, match=r"(?s)problems.*maskSlice.*is empty"):
        train_loader(slice_set)


def test_patient_batch(slice_set):
    batches = list(module(slice_set).test_dataloader())
    assert [batch["patient"][0] for batch in batches] == ["008", "002"]
    batch = batches[0]
    assert batch["image"].shape == (6, 1, 32, 32)
    assert batch["index"] == list(range(6))
    assert batch["label"][:, 0].tolist() == [0, 0, 1, 1, 0, 0]
    assert batch["mask"].dtype == torch.uint8
    assert batch["mask"].sum((1, 2)).tolist() == [0, 0, 36, 36, 0, 0]
    assert batch["body"].dtype == torch.bool
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[4:-4, 4:-4] = True
    assert (batch["body"] == expected).all()
    assert batch["spacing"].shape == (6, 3)
    assert batch["spacing"].isnan().all()


def test_no_masks_no_mask_key(make_slice_set):
    root = make_slice_set("bare", ["001", "002", "007", "008"], masks=False)
    assert all("mask" not in batch for batch in module(root).val_dataloader())


def test_same_normalisation_in_training_and_evaluation(slice_set):
    data = module(slice_set, augmentation=None, predict_on="train")
    data.setup("fit")
    trained = {name: x for b in data.train_dataloader() for name, x in zip(b["id"], b["image"], strict=True)}
    fresh = module(slice_set, augmentation=None, predict_on="train")
    shown = {name: x for b in fresh.predict_dataloader() for name, x in zip(b["id"], b["image"], strict=True)}
    assert trained.keys() <= shown.keys()
    assert all(torch.equal(trained[name], shown[name]) for name in trained)
    body = next(iter(fresh.predict_dataloader()))
    inside = body["image"][:, 0][body["body"]]
    assert inside.mean().abs() < 1e-4
    assert abs(inside.std() - 1) < 1e-2


def batches_of(loader):
    return [(batch["id"], batch["image"]) for batch in loader]


def same(first, second):
    return len(first) == len(second) and all(
        a == c and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)
    )


def test_augmentation_depends_on_seed_and_epoch_not_on_workers(slice_set):
    alone = batches_of(train_loader(slice_set))
    assert same(alone, batches_of(train_loader(slice_set)))
    assert not same(alone, batches_of(train_loader(slice_set, seed=1)))
    loader = train_loader(slice_set, num_workers=2)  # persistent: the same processes serve both epochs
    assert same(alone, batches_of(loader))
    loader.sampler.set_epoch(1)
    second = batches_of(loader)
    assert not same(alone, second)
    assert same(second, batches_of(train_loader(slice_set, epoch=1)))


def test_the_same_slice_looks_different_in_every_epoch(slice_set):
    looks = {}
    for epoch in range(3):
        for names, images in batches_of(train_loader(slice_set, epoch=epoch)):
            for name, image in zip(names, images, strict=True):
                looks.setdefault(name, []).append(image)
    often = [seen for seen in looks.values() if len(seen) > 1]
    assert often
    assert all(not torch.equal(seen[0], seen[1]) for seen in often)


def test_record_fingerprint_and_description(slice_set, make_slice_set):
    data = module(slice_set)
    record = data.split_record()
    assert record["hash"] == data.split.hash
    assert record["test"] == ["008", "002"]
    assert record["counts"]["train"] == {"patients": 5, "slices": 30, "class_1": 10}
    first = data.fingerprint()
    assert module(slice_set).fingerprint() == first
    assert module(slice_set, max_patients=8, batch_size=1).fingerprint() == first
    np.save(slice_set / "imageSlice" / "BRATS_001_0_0.npy", np.zeros((3, 3)))
    assert module(slice_set).fingerprint() != first


def test_stored_split_is_used_again(slice_set, tmp_path):
    import json

    stored = tmp_path / "split.json"
    stored.write_text(json.dumps(module(slice_set).split_record()))
    none = {"val_patients": None, "test_patients": None}
    again = module(slice_set, **none, split_file=str(stored))
    assert again.split.hash == module(slice_set).split.hash
    assert module(slice_set, **none).split.hash != again.split.hash


def test_slice_split_refuses_to_cut(slice_set):
    none = {"val_patients": None, "test_patients": None}
    assert module(slice_set, **none, slice_split=[6, 12]).split.val == ("002",)
    with pytest.raises(ConfigError, match=r"position 11 .* 6 and 12"):
        _ = module(slice_set, **none, slice_split=[6, 11]).split


def test_predict_on(slice_set):
    patients = {
        part: [batch["patient"][0] for batch in module(slice_set, predict_on=part).predict_dataloader()]
        for part in ("val", "test", "all")
    }
    assert patients == {"val": ["007"], "test": ["008", "002"], "all": [f"{number:03d}" for number in range(1, 9)]}
    with pytest.raises(ConfigError, match=r"data\.predict_on=val.*data\.predict_on=all"):
        module(slice_set, val_patients=None, predict_on="val").predict_dataloader()


def test_max_patients(slice_set):
    data = module(slice_set, max_patients=3, val_patients=["003"], test_patients=["002"])
    assert data.split.train == ("001",)


def test_corrupt_slice_is_named(slice_set):
    (slice_set / "imageSlice" / "BRATS_003_2_1.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"BRATS_003_2_1\.npy"):
        train_loader(slice_set)


def test_one_class_cannot_train(slice_set):
    for path in list(slice_set.glob("*/*_0.npy")):
        path.unlink()
    with pytest.raises(DataError, match="all of the 10 training slices show class 1"):
        module(slice_set).setup("fit")
    module(slice_set).setup("test")  # it can still be tested on


def test_sizes_that_differ(slice_set):
    for path in (slice_set / "imageSlice").glob("BRATS_003_*"):
        np.save(path, np.zeros((20, 20)) + np.arange(20))
    with pytest.raises(ConfigError, match=r"20x20, 32x32.*data\.crop_size"):
        list(train_loader(slice_set))
    assert len(list(train_loader(slice_set, crop_size=16))) == 7
    np.save(slice_set / "imageSlice" / "BRATS_008_1_0.npy", np.ones((20, 20)))
    with pytest.raises(DataError, match=r"patient 008: slices of different sizes.*BRATS_008_1_0\.npy is 20x20"):
        list(module(slice_set).test_dataloader())


def test_mask_of_another_size_and_kind(slice_set):
    np.save(slice_set / "maskSlice" / "BRATS_008_2_1.npy", np.full((32, 32, 1), 255))
    batch = next(iter(module(slice_set).test_dataloader()))
    assert batch["mask"][2].unique().tolist() == [1]
    np.save(slice_set / "maskSlice" / "BRATS_008_2_1.npy", np.ones((20, 20)))
    with pytest.raises(DataError, match=r"maskSlice/BRATS_008_2_1\.npy has shape"):
        next(iter(module(slice_set).test_dataloader()))
    with pytest.raises(DataError, match=r"maskSlice/BRATS_008_2_1\.npy has \(20, 20\) .* its slice \(32, 32\)"):
        module(slice_set).setup("fit")


def test_patients_with_other_pixels_or_orientation_are_warned_of(make_slice_set):
    root = make_slice_set("mixed", ["001", "002", "003"], name="BRATS_{patient}_{index}_{label}.npy")
    rows = [f"{path.name},{0.5 if '_002_' in path.name else 1},1" for path in sorted((root / "imageSlice").iterdir())]
    (root / "manifest.csv").write_text("\n".join(["file,spacing_row,spacing_col", *rows]) + "\n")
    (root / "dataset.json").write_text('{"display_exceptions": {"003": {"transpose": true}}}')
    with pytest.warns(UserWarning, match=r"2 of 3 patients .*002: voxels of 0\.5 .* mm.*003: .*orientation"):
        module(root, val_patients=None, test_patients=["003"]).setup("fit")


def test_three_classes(make_slice_set):
    root = make_slice_set("three", ["001", "002", "003"], name="BRATS_{patient}_{index}_{label}.npy", masks=False)
    (root / "imageSlice" / "BRATS_001_4_0.npy").rename(root / "imageSlice" / "BRATS_001_4_2.npy")
    data = module(root, num_classes=3, val_patients=None, test_patients=["003"], augmentation=None)
    data.setup("fit")
    labels = {n: y.tolist() for b in data.train_dataloader() for n, y in zip(b["id"], b["label"], strict=True)}
    assert labels["BRATS_001_4_2"] == [0, 1]
    assert labels["BRATS_001_2_1"] == [1, 0]


@pytest.mark.parametrize(("options", "said"), [
    ({"normalize": "zscor"}, "nearest: 'zscore'"),
    ({"normalize": "imagenet"}, "needs data.channels=3"),
    ({"predict_on": "tests"}, "nearest: 'test'"),
    ({"batch_size": 0}, r"data\.batch_size=0 must be 1 or more"),
    ({"num_classes": 1}, "counts the background"),
    ({"channels": 2}, "must be 1 or 3"),
])  # fmt: skip
def test_wrong_options(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        BraTSDataModule(root=str(tmp_path), **options)


def test_pattern_option(make_slice_set):
    root = make_slice_set("own", ["007", "008", "009"], name="scan-{patient}-{index}-{label}.npy")
    pattern = r"scan-(?P<patient>\d+)-(?P<slice>\d+)-(?P<label>\d)\.npy"
    data = LASCDataModule(root=str(root), pattern=pattern)
    assert data.folder.patients == ["007", "008", "009"]
    assert LASCDataModule.naming.pattern != pattern


class Recorder(LightningModule):
    """Trains one number and notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append((self.current_epoch, tuple(batch["id"]), batch["image"].sum().item()))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch["patient"][0])

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch["patient"][0])

    def predict_step(self, batch, batch_idx):
        self.seen["predict"].append((batch["patient"][0], len(batch["id"])))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet(**options):
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip


def test_lightning_tells_the_sampler_its_epoch_and_leaves_whole_patients(slice_set):
    model, data = Recorder(), module(slice_set, batches_per_epoch=3)
    trainer = quiet(max_epochs=3)
    trainer.fit(model, data)
    expected = [
        (epoch, tuple(batch["id"]), batch["image"].sum().item())
        for epoch in range(3)
        for batch in train_loader(slice_set, epoch=epoch, batches_per_epoch=3)
    ]
    assert model.seen["train"] == expected
    assert model.seen["val"] == ["007"] * 3
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)
    assert model.seen["test"] == ["008", "002"]
    assert model.seen["predict"] == [("008", 6), ("002", 6)]


def test_empty_validation_and_overfitting_modes(slice_set):
    model = Recorder()
    quiet(max_epochs=1).fit(model, module(slice_set, val_patients=None))
    assert model.seen["val"] == []
    assert len(model.seen["train"]) == 9
    model = Recorder()
    quiet(max_epochs=2, overfit_batches=2).fit(model, module(slice_set))
    assert [row[1:] for row in model.seen["train"][:2]] == [row[1:] for row in model.seen["train"][2:]]
