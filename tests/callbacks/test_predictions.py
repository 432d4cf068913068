import csv

import torch
from lightning.pytorch import LightningModule, Trainer

from seewhy.callbacks.predictions import WritePredictions


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
