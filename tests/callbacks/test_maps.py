"""A map that looks like a lesion raises no doubt; one that follows the body does."""

import csv
from types import SimpleNamespace

import torch

from seewhy.callbacks.maps import ImplausibleMapsWriter


def patient(name, values):
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    body = ((rows / 0.9) ** 2 + (columns / 0.7) ** 2 < 1).expand(6, 40, 40)
    maps = values.expand(6, 1, 40, 40) * body[:, None]
    prediction = {"patient": [name] * 6, "probability": torch.ones(6, 1), "maps": {"cam": maps}}
    return prediction, {"body": body}


def test_rows_say_which_patient_and_why(tmp_path):
    lesion = torch.zeros(40, 40)
    lesion[10:18, 24:30] = 0.95
    callback = ImplausibleMapsWriter(folder=str(tmp_path))
    callback.on_test_start(None, None)
    for number, (name, values) in enumerate([("good", lesion), ("bad", torch.full((40, 40), 0.6))]):
        prediction, batch = patient(name, values)
        callback.on_test_batch_end(None, None, prediction, batch, number)
    callback.on_test_end(SimpleNamespace(is_global_zero=True), None)
    with (tmp_path / "doubts.csv").open() as file:
        rows = {row["patient"]: row for row in csv.DictReader(file)}
    assert rows["good"]["doubts"] == ""
    assert float(rows["bad"]["cover"]) == 1.0
    for sign in ("peaks at", "covers 100%", "mirror image"):
        assert sign in rows["bad"]["doubts"]


def test_without_a_body_nothing_is_said(tmp_path):
    prediction, _ = patient("x", torch.ones(40, 40))
    callback = ImplausibleMapsWriter(folder=str(tmp_path))
    callback.on_predict_start(None, None)
    callback.on_predict_batch_end(None, None, prediction, {}, 0)
    callback.on_predict_end(SimpleNamespace(is_global_zero=True), None)
    assert not (tmp_path / "doubts.csv").exists()
