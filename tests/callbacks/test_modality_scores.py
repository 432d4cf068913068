"""A model of two modalities is tested on each alone, beside the floors of that modality."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from seewhy.callbacks.modality_scores import ScoreModalities
from seewhy.data.base import BaseDataModule

S, SIZE = 4, 32


def patient(name):
    """A spot that is bright in both modalities, on slices 1 and 2."""
    mask = torch.zeros(S, SIZE, SIZE, dtype=torch.uint8)
    mask[1:3, 10:20, 6:12] = 1
    image = torch.rand(S, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(len(name))) * 0.1
    image = image + 3.0 * mask[:, None]
    return {
        "image": image, "mask": mask, "body": torch.ones_like(mask, dtype=torch.bool),
        "label": torch.tensor([[0.0], [1.0], [1.0], [0.0]]), "missing": torch.full((S, 2), -4.0),
        "id": [f"{name}_{k}" for k in range(S)], "patient": [name] * S, "index": list(range(S)),
    }  # fmt: skip


class Patients(BaseDataModule):
    def __init__(self, sources):
        super().__init__()
        self.sources = sources

    @property
    def channel_sources(self):
        return self.sources

    def test_dataloader(self):
        return DataLoader([patient("a"), patient("bb")], batch_size=None)


class FirstChannel(LightningModule):
    """Sees only the first channel."""

    def predict_step(self, batch, batch_idx=0):
        values = (batch["image"][:, :1] / 3).clamp(0, 1)
        return {**batch, "probability": values.flatten(1).amax(1)[:, None], "maps": {"refined": values}}

    def test_step(self, batch, batch_idx):
        return self.predict_step(batch)


def run_test(sources):
    trainer = Trainer(
        accelerator="cpu", callbacks=[ScoreModalities()], logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.test(FirstChannel(), Patients(sources), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_modality_that_the_model_ignores_has_no_score_and_its_floors_stay():
    scores = run_test({"flair": ("flair",), "t1": ("t1",)})
    assert scores["test/refined_flair/dice"] == 1.0
    assert scores["test/refined_t1/dice"] == 0.0
    assert scores["test/classifier_flair/auroc"] == 1.0
    assert scores["test/classifier_t1/auroc"] == 0.5
    for modality in ("flair", "t1"):  # both show the spot, so a threshold finds it in either
        assert scores[f"test/floor_intensity_{modality}/auprc"] == pytest.approx(1.0)
    assert not [name for name in scores if name.startswith("test/floor_body")]


def test_with_one_modality_nothing_is_logged():
    assert run_test({}) == {}
    assert run_test({"t1": ("t1",), "t1-mirror": ("t1",)}) == {}
