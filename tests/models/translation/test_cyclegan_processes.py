"""Several processes make the steps of one with larger batches, and agree on every weight."""

import pytest
import torch
from lightning.pytorch import Callback
from tiny_cyclegan import Batches, halves, pairs, subject, tiny, trainer_for

from seewhy.callbacks.ema import ExponentialMovingAverage

SGD = {"name": "sgd", "lr": 0.01}


class Shares(Batches):
    """The first half of each batch for the first process, the second for the other."""

    def train_dataloader(self):
        self.train = [halves(batch)[self.trainer.global_rank] for batch in self.train]
        return super().train_dataloader()

    def val_dataloader(self):
        self.subjects = self.subjects[self.trainer.global_rank :: 2]
        return super().val_dataloader()

    test_dataloader = predict_dataloader = val_dataloader


class Keep(Callback):
    """Writes what each process ends with."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        kept = {"weights": pl_module.state_dict(), "replays": pl_module.replays.gather_state(), "logged": logged}
        torch.save(kept, self.folder / f"rank{trainer.global_rank}.pt")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_make_the_steps_of_one(tmp_path, accumulate):
    batches = [pairs(4, seed=seed) for seed in range(2)]
    subjects = [subject(domain, number) for number in range(2) for domain in "ab"]
    options = {"optimizer": SGD, "accumulate": accumulate, "clip": 1.0}
    model = tiny(**options, replay=4)  # which gives new images back while it fills
    callbacks = [ExponentialMovingAverage(decay=0.5), Keep(tmp_path)]
    trainer_for(
        tmp_path, *callbacks, devices=2, strategy="ddp_fork_find_unused_parameters_true", use_distributed_sampler=False
    ).fit(model, Shares(batches, subjects=subjects))
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]) or value.isnan().all(), name
    assert first["logged"] == second["logged"]
    assert len(first["logged"]) > 5
    one, other = first["replays"]
    assert len(first["replays"]) == 2
    assert not torch.equal(one["a"]["images"], other["a"]["images"])

    alone = tiny(**options, replay=0)
    trainer_for(tmp_path, ExponentialMovingAverage(decay=0.5)).fit(alone, Batches(batches, subjects=subjects))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(
            first["weights"][name],
            value,
            rtol=1e-4,
            atol=1e-5,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )
