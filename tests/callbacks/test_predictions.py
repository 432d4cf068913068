import csv

import nibabel as nib
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from seewhy.callbacks.predictions import PredictionOptions, SampleWriter, WritePredictions
from seewhy.io.documents import read_csv


class Classifier(LightningModule):
    """Scores that are the batch itself."""

    classes = ("HC", "TLE")

    def predict_step(self, batch, batch_idx=0):
        return {**batch, "logits": batch["logits"], "probability": batch["logits"].softmax(dim=1)}


def written(folder, batches):
    trainer = Trainer(
        logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[WritePredictions(folder=str(folder))]
    )
    trainer.predict(Classifier(), torch.utils.data.DataLoader(batches, batch_size=None), return_predictions=False)
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def batch_of(names, logits, label=None):
    batch = {"id": names, "patient": names, "source": [f"{name}.nii.gz" for name in names]}
    batch["logits"] = torch.tensor(logits)
    return batch if label is None else {**batch, "label": torch.tensor(label)}


def test_every_case_is_a_row_and_nothing_else_is_written(tmp_path):
    batches = [batch_of(["b", "a"], [[2.0, 0.0], [0.0, 1.0]], [0, 0]), batch_of(["c"], [[0.0, 3.0]], [1])]
    rows = written(tmp_path, batches)
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [row["performance_type"] for row in rows] == ["FP", "TN", "TP"]
    assert float(rows[2]["probability_TLE"]) == float(torch.tensor([0.0, 3.0]).softmax(0)[1])
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_cases_without_labels_are_predicted(tmp_path):
    rows = written(tmp_path, [batch_of(["a"], [[0.0, 1.0]])])
    assert rows[0]["prediction_name"] == "TLE"
    assert not {"label", "correct", "performance_type"} & set(rows[0])


@pytest.mark.parametrize("patient", ["../../escaped", "/abs/escaped", "a/b", "x" * 300, "a\\b", ".."])
def test_files_of_any_patient_stay_in_the_folder(tmp_path, patient):
    source = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 2), np.float32), np.eye(4)), source)
    folder = tmp_path / "out" / "predictions"
    prediction = {
        "id": ["s"], "patient": [patient], "source": [str(source)], "index": [0],
        "probability": torch.ones(1, 1), "maps": {"cam": torch.ones(1, 1, 4, 4)},
    }  # fmt: skip
    SampleWriter(PredictionOptions(folder=folder, npz=True)).write(prediction, {}, Classifier())
    assert {path.suffix for path in folder.iterdir()} == {".npz", ".gz"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["scan.nii.gz", "out", "predictions", *(path.name for path in folder.iterdir())]
    )


def test_names_in_the_table_are_those_of_the_data(tmp_path):
    names = ["NA", "None", "=1+1", "007", "a,b"]
    rows = written(tmp_path, [batch_of(names, [[0.1, 0.9]] * 5)])
    assert [row["id"] for row in rows] == ["007", "'=1+1", "NA", "None", "a,b"]
    assert [row["id"] for row in read_csv(tmp_path / "predictions.csv").rows] == sorted(names)
    assert {row["confidence"] for row in rows} == {repr(float(torch.tensor([0.1, 0.9]).softmax(0)[1]))}


def test_names_that_pandas_takes_for_missing_and_digits_survive(tmp_path, monkeypatch):
    monkeypatch.setattr(Classifier, "classes", ("None", "01"))
    names = ["007", "NA", "nan", "null", "1e5"]
    rows = written(tmp_path, [batch_of(names, [[1 / 3, 0.1]] * 4 + [[0.0, 1.0]], [0, 0, 0, 1, 1])])
    assert [row["patient"] for row in rows] == sorted(names)
    assert {row["label_name"] for row in rows} == {"None", "01"}
    assert float(rows[0]["probability_01"]) == float(torch.tensor([1 / 3, 0.1]).softmax(0)[1])
