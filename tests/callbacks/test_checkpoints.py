"""The best checkpoint: direction of a score, several checkpoints, and a training that continues elsewhere."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from seewhy.callbacks.checkpoints import BestCheckpoint
from seewhy.errors import ConfigError
from seewhy.metrics.direction import find_mode

LOSSES = [3.0, 1.0, 2.0, 4.0]
"""Validation loss of each epoch: the second is the best."""


class Scripted(LightningModule):
    """Logs a given validation loss in each epoch, and its negative as the AUROC."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, _):
        return (self.weight * batch).sum()

    def validation_step(self, batch, _):
        loss = LOSSES[self.current_epoch]
        self.log_dict({"val/loss": loss, "val/auroc": -loss})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(torch.ones(2, 1))

    val_dataloader = train_dataloader


def fit(saver, *, epochs=4, resume=None, folder):
    trainer = Trainer(
        max_epochs=epochs, callbacks=[saver], logger=False, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(Scripted(), ckpt_path=resume, weights_only=True)
    return trainer


def epoch_of(path):
    return torch.load(path, weights_only=True)["epoch"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/loss", "min"),
        ("val/classification_loss", "min"),
        ("val/prediction/hd95", "min"),
        ("val/auroc", "max"),
        ("val/prediction/dice", "max"),
        ("val/balanced_accuracy", "max"),
    ],
)
def test_the_direction_follows_from_the_name(name, mode):
    assert find_mode(name) == find_mode(name, mode) == mode
    with pytest.raises(ConfigError, match=rf"mode=\w+ contradicts .*{name}.*mode={mode}"):
        find_mode(name, "max" if mode == "min" else "min")


def test_a_name_that_says_nothing_needs_a_mode():
    assert find_mode("val/mine", "max") == "max"
    with pytest.raises(ConfigError, match=r"callbacks\.best\.monitor='val/mine'.*mode=min or .*mode=max"):
        find_mode("val/mine")
    with pytest.raises(ConfigError, match=r"'maximum'.*'max'"):
        find_mode("val/loss", "maximum")


@pytest.mark.parametrize("monitor", ["val/loss", "val/auroc"])
@pytest.mark.parametrize("filename", ["best", "mine_{epoch}"])
@pytest.mark.parametrize("count", [1, 2, -1])
def test_the_best_is_found_whatever_its_name_and_company(tmp_path, monitor, filename, count):
    saver = BestCheckpoint(dirpath=tmp_path, monitor=monitor, filename=filename, save_top_k=count)
    fit(saver, folder=tmp_path)
    assert epoch_of(saver.best_model_path) == 1
    kept = sorted(epoch_of(path) for path in tmp_path.glob("*.ckpt"))
    assert kept == {1: [1], 2: [1, 2], -1: [0, 1, 2, 3]}[count]


@pytest.mark.parametrize("place", ["same", "moved", "new"])
def test_a_continued_training_knows_the_best_of_before(tmp_path, place):
    first = tmp_path / "first"
    options = {"monitor": "val/loss", "save_top_k": 1}
    saver = BestCheckpoint(dirpath=first, **options)
    trainer = fit(saver, epochs=2, folder=first)
    trainer.save_checkpoint(first / "last.ckpt")
    if place == "moved":
        first = first.rename(tmp_path / "elsewhere")
    folder = tmp_path / "second" if place == "new" else first
    again = BestCheckpoint(dirpath=folder, **options)
    fit(again, resume=first / "last.ckpt", folder=folder)
    assert again.best_model_path == str(first / "best.ckpt")
    assert epoch_of(again.best_model_path) == 1
    assert float(again.best_model_score) == 1.0


def test_without_the_file_of_the_best_the_next_epoch_is_the_best(tmp_path):
    trainer = fit(BestCheckpoint(dirpath=tmp_path, monitor="val/loss"), epochs=2, folder=tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "best.ckpt").unlink()
    again = BestCheckpoint(dirpath=tmp_path, monitor="val/loss")
    fit(again, resume=tmp_path / "last.ckpt", folder=tmp_path)
    assert epoch_of(again.best_model_path) == 2
