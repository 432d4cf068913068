"""Pictures of every case after a test: upright, of the right classes, first where the lesion is largest."""

import base64
import io

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader

from seewhy.callbacks.cases import WriteCases
from seewhy.callbacks.scores import ScorePredictions
from seewhy.data.base import BaseDataModule
from seewhy.figures.report.cases import read_cases
from seewhy.io.geometry import Display
from seewhy.metrics.classification.cases import CaseScores


def decode(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


class Data(BaseDataModule):
    def __init__(self, batches, display):
        super().__init__()
        self.batches, self.display = batches, display

    def test_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    predict_dataloader = test_dataloader

    def display_of(self, patient):
        return self.display

    def split_record(self):
        return {}

    def fingerprint(self):
        return ""


class Slices(LightningModule):
    """Predicts what its batch says."""

    def test_step(self, batch, batch_idx):
        carried = {name: batch[name] for name in ("id", "patient", "index", "probability")}
        return {**carried, "maps": {"cam": batch["refined"] / 2, "refined": batch["refined"]}}


class Grades(LightningModule):
    """Classifies with the logits of its batch."""

    classes = ("normal", "late")

    def __init__(self):
        super().__init__()
        self.patient_scores = {"test": CaseScores(classes=self.classes, resamples=0, permutations=0)}

    def predict_step(self, batch, batch_idx=0):
        carried = {name: batch[name] for name in ("id", "patient", "source", "label")}
        return {**carried, "logits": batch["logits"], "probability": batch["logits"].softmax(1)}

    test_step = predict_step

    def reset_scores(self, stage):
        self.patient_scores[stage].reset()

    def update_scores(self, prediction, batch, stage):
        self.patient_scores[stage].update(prediction, batch)

    def compute_scores(self, stage):
        return self.patient_scores[stage].compute()


def run(tmp_path, model, batches, *callbacks, display=Display(), loop="test"):  # noqa: B008
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[WriteCases(folder=str(tmp_path / "cases"), max_slices=3), *callbacks], **options)
    if loop == "test":
        trainer.test(model, Data(batches, display), verbose=False)
    else:
        trainer.predict(model, Data(batches, display), return_predictions=False)
    return read_cases(tmp_path / "cases")


def slices(number, *, ill=True):
    mask = torch.zeros(6, 40, 30, dtype=torch.uint8)
    if ill:
        mask[3, 2:4, 2:4] = 1
        mask[4, 4:20, 2:12] = 1
    image = torch.zeros(6, 1, 40, 30)
    image[:, :, 4:20, 2:12] = 1.0
    return {
        "image": image, "mask": mask, "label": mask.flatten(1).amax(1, keepdim=True).float(),
        "id": [f"{number}_{i}" for i in range(6)], "patient": [number] * 6, "index": [10 * i for i in range(6)],
        "refined": mask[:, None].float(), "probability": torch.full((6, 1), 0.9 if ill else 0.2),
        "spacing": torch.tensor([[1.0, 2.0, 5.0]] * 6),
    }  # fmt: skip


def test_a_patient_of_slices(tmp_path):
    display = Display(transpose=True, flip_rows=True, plane="axial")
    healthy, ill = run(tmp_path, Slices(), [slices("P1", ill=True), slices("P0", ill=False)], display=display)
    assert (ill.id, ill.label, ill.prediction, ill.right) == ("P1", "present", "present", True)
    assert (healthy.label, healthy.prediction, healthy.right) == ("absent", "absent", True)
    assert ill.probability == pytest.approx(0.9)
    assert [(layer.kind, layer.name) for layer in ill.layers] == [
        ("image", "image"), ("truth", ""), ("map", "CAM"), ("map", "refined"),
        ("prediction", "prediction: refined above 0.5"),
    ]  # fmt: skip
    [plane] = ill.planes
    assert [item.number for item in plane.slices] == [0, 20, 40] or len(plane.slices) <= 3
    assert plane.slices[plane.key].number == 40  # of the largest lesion
    assert (plane.total, plane.sides, plane.mm) == (6, ("R", "L"), 40.0)
    image, truth, cam, _, prediction = (decode(url) for url in plane.slices[plane.key].pictures)
    # 40 rows of 1 mm and 30 columns of 2 mm become 60 rows and 40 columns of 1 mm, turned upside down.
    expected = np.kron(slices("P1")["mask"][4].numpy().T[::-1], np.ones((2, 1)))
    assert image.shape[:2] == truth.shape == expected.shape == (60, 40)
    assert (truth == (expected > 0)).mean() > 0.99
    assert (prediction == (expected > 0)).mean() > 0.99
    assert image[expected > 0].mean() > 200 > 60 > image[expected == 0].mean()
    assert cam[expected > 0, 0].mean() > 230
    tops = [layer.top for layer in ill.layers if layer.kind == "map"]
    assert tops == pytest.approx([0.5, 1.0])  # the map of half the height has half the colour
    assert plane.slices[0].pictures[1] is None  # nothing annotated there


def cases(labels, logits):
    count = len(labels)
    return {
        "image": torch.rand(count, 1, 24, 24), "label": torch.tensor(labels), "logits": torch.tensor(logits),
        "id": [f"c{i}" for i in range(count)], "patient": [f"p{i}" for i in range(count)], "source": [""] * count,
    }  # fmt: skip


LOGITS = [[3.0, 0.0], [0.0, 3.0], [0.1, 0.0], [0.0, 3.0]]


def test_classified_cases(tmp_path):
    found = run(tmp_path, Grades(), [cases([0, 0, 0, -1], LOGITS)])
    assert [(case.label, case.prediction, case.right) for case in found] == [
        ("normal", "normal", True), ("normal", "late", False), ("normal", "normal", True), ("", "late", None)
    ]  # fmt: skip
    assert found[0].probability == pytest.approx(0.953, abs=1e-3)
    assert found[0].doubts == []
    assert found[2].doubts == ["two classes are close: normal 0.52, late 0.48"]


def test_cases_of_an_earlier_test_are_removed(tmp_path):
    run(tmp_path, Grades(), [cases([0, 1], LOGITS[:2])])
    assert len(run(tmp_path, Grades(), [cases([0], LOGITS[:1])])) == 1


def test_predictions_are_scored_where_the_label_is_known(tmp_path):
    scored = ScorePredictions()
    run(tmp_path, Grades(), [cases([0, 0, 0, -1], LOGITS)], scored, loop="predict")
    assert scored.scores["accuracy"] == pytest.approx(2 / 3)
    assert scored.scores["cases"] == 3
    assert scored.scores["floor_majority/accuracy"] == 1.0
    assert [row["id"] for row in scored.rows] == ["c0", "c1", "c2"]


def test_a_model_without_scores_has_none(tmp_path):
    class Plain(LightningModule):
        def predict_step(self, batch, batch_idx):
            return {"probability": batch["logits"].softmax(1)}

    scored = ScorePredictions()
    found = run(tmp_path, Plain(), [cases([0], LOGITS[:1])], scored, loop="predict")
    assert (scored.scores, scored.rows) == ({}, [])
    assert found[0].prediction == "class 0"
