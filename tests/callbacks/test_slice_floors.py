import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from seewhy.callbacks.slice_floors import SliceFloors
from seewhy.data.base import BaseDataModule


def patient(name, areas, labels):
    body = torch.zeros(len(areas), 10, 10, dtype=torch.bool)
    for plane, area in zip(body, areas, strict=True):
        plane.view(-1)[:area] = True
    count = len(areas)
    return {
        "image": torch.zeros(count, 1, 10, 10), "body": body, "label": torch.tensor(labels)[:, None].float(),
        "id": [f"{name}_{i}" for i in range(count)], "patient": [name] * count,
    }  # fmt: skip


class Patients(BaseDataModule):
    def __init__(self, train, test):
        super().__init__()
        self.parts = {"train": train, "test": test}
        self.read = []

    def items_of(self, part):
        return self.parts[part]

    def evaluation_data(self, items):
        self.read = [item["patient"][0] for item in items]
        return list(items)

    def test_dataloader(self):
        return DataLoader(self.parts["test"], batch_size=None)


class Silent(LightningModule):
    def test_step(self, batch, batch_idx):
        return None


def run_test(train, test, **options):
    data = Patients(train, test)
    trainer = Trainer(
        accelerator="cpu", callbacks=[SliceFloors(**options)], logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.test(Silent(), data, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}, data


TRAIN = [patient(f"t{n}", [10, 30, 60, 62, 30, 10], [0, 0, 1, 1, 0, 0]) for n in range(5)]
TEST = [patient("x", [50] * 6, [0, 0, 1, 1, 0, 0]), patient("y", [50] * 6, [0, 0, 1, 1, 0, 0])]


def test_the_floors_of_training_patients_are_logged_with_the_test():
    scores, data = run_test(TRAIN, TEST)
    assert scores["test/floor_position/auroc"] == pytest.approx(1.0)
    assert scores["test/floor_area/auroc"] == pytest.approx(0.5)
    assert set(scores) == {f"test/floor_{name}/auroc" for name in ("position", "area", "position_area")}
    assert data.read == ["t0", "t1", "t2", "t3", "t4"]


def test_no_more_training_patients_are_read_than_allowed():
    _, data = run_test(TRAIN, TEST, max_patients=3)
    assert data.read == ["t0", "t2", "t4"]


def test_without_training_patients_nothing_is_logged():
    assert run_test([], TEST)[0] == {}
