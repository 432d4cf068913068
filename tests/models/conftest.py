"""Tiny cases with four inputs, of which `fluid` alone shows the grade, as a DataModule in memory."""

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

INPUTS = ("mnv", "fluid", "ga", "drusen")


class ToyCases(LightningDataModule):
    """`cases` eyes of `size` pixels, grades in turn, two eyes per patient."""

    def __init__(self, cases=24, size=32, grades=4):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.label = torch.arange(cases) % grades
        self.images = torch.randn(cases, 4, 1, size, size, generator=generator)
        self.images[:, 1] += self.label[:, None, None, None].float()
        self.grades = grades

    def class_counts(self):
        return torch.bincount(self.label, minlength=self.grades).tolist()

    def batch(self, rows):
        present = torch.ones(len(rows), 4, dtype=torch.bool)
        return {
            "image": {**{name: self.images[rows, i] for i, name in enumerate(INPUTS)}, "present": present},
            "label": self.label[rows],
            "id": [f"case{row}" for row in rows],
            "patient": [f"patient{row // 2}" for row in rows],
            "source": [f"case{row}_mnv.png" for row in rows],
            "placement": [None] * len(rows),
        }

    def _loader(self, size):
        return DataLoader(range(len(self.label)), batch_size=size, collate_fn=self.batch)

    def train_dataloader(self):
        return self._loader(8)

    def val_dataloader(self):
        return self._loader(5)

    def test_dataloader(self):
        return self._loader(7)

    def predict_dataloader(self):
        return self._loader(7)


@pytest.fixture(scope="session")
def toy_cases():
    """The DataModule's class."""
    return ToyCases
