"""What is wrong with data or a checkpoint is one clear message, and no run is recorded."""

import os

import numpy as np
import pytest
import torch

from seewhy.errors import CheckpointError, DataError
from seewhy.phantoms.slices import write_tumour_phantom


class Payload:
    """A pickle that would run code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def data(tmp_path):
    return write_tumour_phantom(tmp_path / "data", patients=8, slices=4, size=48, seed=0)


@pytest.fixture
def train_on(train_here, tmp_path):
    """Train on a folder that is no phantom to be written."""

    def call(root, *overrides):
        train_here(tmp_path / "run", f"data.root={root}", *overrides, base=train_here.on_own_data)

    return call


def nothing_recorded(tmp_path):
    return {path.name for path in (tmp_path / "run").rglob("*")} <= {".lock"}


def test_a_missing_and_an_empty_folder(train_on, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist .*set data\.root"):
        train_on(tmp_path / "nowhere")
    (tmp_path / "empty" / "imageSlice").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds no \.npy files; expected names like"):
        train_on(tmp_path / "empty")
    assert nothing_recorded(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot|damaged|truncated|cut"),
        (lambda path: path.write_bytes(b""), "empty|cannot|no .npy"),
        (lambda path: np.save(path, np.full((48, 48), np.nan, np.float32)), "finite|NaN"),
        (lambda path: np.save(path, np.zeros(7)), "7"),
    ],
    ids=["cut off", "of no bytes", "NaN", "of one dimension"],
)
def test_a_corrupt_training_slice_is_named(train_on, data, tmp_path, spoil, said):
    victim = sorted((data / "imageSlice").iterdir())[5]
    patient = victim.name.split("_")[1]
    spoil(victim)
    others = [f"{number:03d}" for number in range(1, 9) if f"{number:03d}" != patient]
    choice = [f"data.val_patients=['{others[0]}']", f"data.test_patients=['{others[1]}']"]
    with pytest.raises(DataError, match=f"(?s){victim.name}.*({said})"):
        train_on(data, *choice)
    assert nothing_recorded(tmp_path)


def test_damaged_files_of_every_part_are_named_together_before_training(train_on, data, tmp_path):
    """Test images and masks too: nobody trains for a day to learn that a file of the test is cut off."""
    image = sorted((data / "imageSlice").glob("BRATS_002_*"))[1]
    mask = sorted((data / "maskSlice").glob("BRATS_003_*"))[0]
    for victim in (image, mask):
        victim.write_bytes(victim.read_bytes()[:-9])
    choice = ["data.val_patients=['003']", "data.test_patients=['002']"]
    with pytest.raises(DataError, match=f"(?s){image.name} is truncated.*maskSlice/{mask.name} is truncated"):
        train_on(data, *choice)
    assert nothing_recorded(tmp_path)


def test_a_pickled_slice_is_refused_and_not_run(train_on, data, tmp_path):
    victim = sorted((data / "imageSlice").iterdir())[5]
    np.save(victim, np.array([Payload(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=victim.name):
        train_on(data, "data.fractions=[0.7,0.15,0.15]", f"data.train_patients=['{victim.name.split('_')[1]}','003']")
    assert not (tmp_path / "ran").exists()
    assert nothing_recorded(tmp_path)


def test_a_label_that_is_no_integer(train_on, data, tmp_path):
    victim = sorted((data / "imageSlice").iterdir())[0]
    victim.rename(victim.with_name("BRATS_001_0_tumour.npy"))
    with pytest.raises(DataError, match=r"BRATS_001_0_tumour\.npy: the label 'tumour' after the last _ is not"):
        train_on(data)
    assert nothing_recorded(tmp_path)


def test_a_checkpoint_that_does_not_fit_or_is_unsafe(train_here, tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "global_step": 3}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt is of another model"):
        train_here(tmp_path / "run", f"ckpt_path={tmp_path / 'other.ckpt'}")
    torch.save({"state_dict": {}, "x": Payload(tmp_path / "ran")}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="could run code; refused"):
        train_here(tmp_path / "run", f"ckpt_path={tmp_path / 'bad.ckpt'}")
    assert not (tmp_path / "ran").exists()
    assert nothing_recorded(tmp_path)
