"""A training that was stopped and goes on is the training that was not stopped, bit for bit."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny_cyclegan import OPTIONS, Batches, pairs, subject, tiny, trainer_for

from seewhy.callbacks.ema import ExponentialMovingAverage

SETTINGS = {
    "scheduler": {"name": "linear", "warmup": 2},
    "generator": {**OPTIONS["generator"], "output": "residual"},
    "losses": {"weights": {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "nce": 1.0}},
    "nce": {"dim": 8, "patches": 16},
    "replay": 2,
    "accumulate": 2,
}


def callbacks(folder, ema):
    last = ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True)
    return [last, *([ExponentialMovingAverage(decay=0.5)] if ema else [])]


class Changing(Batches):
    """Other batches in every epoch, as a real data set has them."""

    def train_dataloader(self):
        first = 3 * self.trainer.current_epoch
        self.train = [pairs(2, seed=first + number) for number in range(3)]
        return super().train_dataloader()


def fitted(folder, epochs, *, ema, ckpt_path=None, stop=None):
    model = tiny(**SETTINGS)
    trainer = trainer_for(folder, *callbacks(folder, ema), max_epochs=epochs, reload_dataloaders_every_n_epochs=1)
    if stop is not None:
        trainer.should_stop, trainer.fit_loop.min_epochs = False, 0
        model.on_train_epoch_end = lambda: setattr(trainer, "should_stop", trainer.current_epoch + 1 == stop)
    data = Changing([], subjects=[subject("a"), subject("b")])
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return model, trainer


def same(one, other):
    """Whether two checkpoints hold the same, tensor by tensor."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) or bool((one.isnan() & other.isnan()).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.mark.parametrize("ema", [False, True])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, ema):
    fitted(tmp_path / "whole", 4, ema=ema)
    fitted(tmp_path / "parts", 4, ema=ema, stop=2)  # its schedules reach for the end of 4 epochs
    half = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert half["epoch"] == 1
    assert len(half["replays"][0]["a"]["images"]) == 2
    fitted(tmp_path / "parts", 4, ema=ema, ckpt_path=tmp_path / "parts" / "last.ckpt")
    whole, parts = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "parts"))
    assert not same(half["state_dict"], whole["state_dict"])
    names = ["state_dict", "optimizer_states", "lr_schedulers", "replays", "global_step", "epoch"]
    for name in [*names, *(["current_model_state", "averaging_state"] if ema else [])]:
        assert same(whole[name], parts[name]), name


def test_a_history_of_other_processes_is_not_taken(tmp_path):
    fitted(tmp_path, 1, ema=False)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    model = tiny(**SETTINGS)
    model.on_load_checkpoint(checkpoint)
    with pytest.warns(UserWarning, match="histories of fakes of 1 processes"):
        model.replays.begin(1)
    assert len(model.replays.buffers["a"]) == 0
    model.on_load_checkpoint(checkpoint)
    model.replays.begin(0)
    assert len(model.replays.buffers["a"]) == 2
    first, second = tiny(**SETTINGS), tiny(**SETTINGS)
    first.replays.begin(0), second.replays.begin(1)
    draws = [[model.replays.buffers[name]._random.get_state() for name in "ab"] for model in (first, second)]
    assert len({bytes(state.numpy()) for own in draws for state in own}) == 4
