"""ExplainCallback with plain DataLoaders in place of a DataModule of seewhy."""

import json

import numpy as np
import pytest
import torch
from blank_figures import blank_figures
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import seewhy
from seewhy.callbacks.explain import ExplainCallback
from seewhy.errors import ConfigError
from seewhy.explain import Saliency
from seewhy.reporting.selection import ExplanationSettings


class Plain(LightningModule):
    """A classifier of someone else."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, image):
        return self.net(image)

    def test_step(self, batch, batch_idx):
        return {"probability": self(batch[0]).softmax(dim=1)}


def loader_of(shuffle=False, **options):
    torch.manual_seed(3)
    data = TensorDataset(torch.rand(9, 1, 4, 4), torch.arange(9) % 3)
    return DataLoader(data, batch_size=4, shuffle=shuffle, **options)


def explain_in_test(folder, loader, **settings):
    callback = ExplainCallback(
        folder=folder, explainers={"saliency": Saliency()}, settings=ExplanationSettings(judge="none", **settings)
    )
    trainer = Trainer(
        callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
    )
    with blank_figures():
        trainer.test(Plain(), dataloaders=loader, verbose=False)
    found = json.loads((folder / "explanations" / "explanations.json").read_text())["explanations"]
    return {record["id"]: record for record in found}


@pytest.mark.parametrize("rule", ["first", "spread"])
def test_maps_are_those_of_explain_loader(tmp_path, rule):
    found = explain_in_test(tmp_path, loader_of(), samples=rule, max_samples=3)
    direct = seewhy.explain_loader(Plain(), loader_of(), 3, methods="saliency", samples=rule)
    assert list(found) == [sample.id for sample in direct]
    for sample in direct:
        record = found[sample.id]
        [array] = [np.load(tmp_path / "explanations" / file) for file in record["files"] if file.endswith(".npy")]
        np.testing.assert_allclose(array, sample.maps["image"], atol=1e-7)
        assert record["label"] == sample.label


def test_the_worst_samples_are_found_by_the_predictions_of_the_loop(tmp_path):
    found = explain_in_test(tmp_path, loader_of(), samples="worst", max_samples=2)
    images, labels = loader_of().dataset.tensors
    truth = Plain()(images).softmax(dim=1).gather(1, labels[:, None])[:, 0]
    assert set(found) == {f"sample_{number:06d}" for number in truth.argsort()[:2].tolist()}


def test_loaders_that_cannot_be_read_again_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="shuffle=False"):
        explain_in_test(tmp_path, loader_of(shuffle=True))
