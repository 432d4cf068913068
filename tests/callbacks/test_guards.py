"""Losses, weights and predictions that are not finite stop a loop; SIGTERM ends each."""

import os
import signal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from seewhy.callbacks.guards import EndOnSigterm, StopIfNotFinite
from seewhy.errors import SeewhyError
from seewhy.termination import Terminated, end_on_sigterm


class Tiny(LightningModule):
    """One weight; its loss is the batch's image times the weight."""

    def __init__(self, *, manual=False, lr=0.1):
        super().__init__()
        self.automatic_optimization, self.lr = not manual, lr
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, _):
        loss = (self.weight * batch["image"]).sum()
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return None

    def validation_step(self, batch, _):
        return {"id": ["case_7"], "probability": self.weight * batch["image"]}

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loader(*values):
    return DataLoader([{"image": torch.tensor(value), "spacing": torch.tensor(float("nan"))} for value in values])


def trainer(*callbacks):
    return Trainer(
        max_epochs=2, callbacks=list(callbacks), logger=False, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip


@pytest.mark.parametrize("manual", [False, True])
def test_a_loss_from_data_that_are_not_finite_names_step_and_entry(manual):
    model = Tiny(manual=manual)
    with pytest.raises(SeewhyError, match=r"loss of step 2 \(epoch 0\).*'image' of its batch"):
        trainer(StopIfNotFinite()).fit(model, loader(1.0, 2.0, float("nan")))
    assert torch.isfinite(model.weight).all()  # stopped before the step


def test_weights_that_are_not_finite_are_found_before_they_are_scored():
    model = Tiny(lr=float("inf"))
    with pytest.raises(SeewhyError, match=r"after step 0 .*'weight'.*model\.optimizer\.lr"):
        trainer(StopIfNotFinite()).fit(model, loader(1.0), loader(1.0))


@pytest.mark.parametrize("loop", ["validate", "test", "predict"])
def test_predictions_that_are_not_finite_name_the_sample(loop):
    with pytest.raises(SeewhyError, match=r"'probability'.*case_7.*'image' of the batch"):
        getattr(trainer(StopIfNotFinite()), loop)(Tiny(), loader(1.0, float("inf")))
    model = Tiny()
    model.weight.data.fill_(3e38)
    with pytest.raises(SeewhyError, match=r"'probability'.*case_7.*overflow"):
        getattr(trainer(StopIfNotFinite()), loop)(model, loader(3.0))


class Terminate(Callback):
    """Sends SIGTERM to this process at the first batch."""

    def _kill(self, *_):
        os.kill(os.getpid(), signal.SIGTERM)

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _kill


@pytest.mark.parametrize("loop", ["fit", "validate", "test", "predict"])
def test_sigterm_ends_every_loop_at_once(loop):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as end, end_on_sigterm():
        getattr(trainer(Terminate(), EndOnSigterm()), loop)(Tiny(), loader(1.0, 2.0))
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_on_slurm_the_handler_of_lightning_stays(monkeypatch):
    """SLURM sends SIGTERM while Lightning saves: the loop ends between two batches, as without seewhy."""
    from lightning.pytorch.plugins.environments import SLURMEnvironment
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    runner = trainer(Terminate(), EndOnSigterm())
    monkeypatch.setattr(SLURMEnvironment, "__init__", lambda self: None)
    environment = SLURMEnvironment()
    environment.auto_requeue, environment.requeue_signal = True, signal.SIGUSR1
    runner._accelerator_connector.cluster_environment = environment
    with pytest.raises(SIGTERMException), end_on_sigterm():
        runner.fit(Tiny(), loader(1.0, 2.0))
