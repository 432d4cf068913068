"""Scores of a prediction, and the warning about patients of the training."""

import json
from types import SimpleNamespace

from seewhy.run.folder import RunFolder
from seewhy.run.pages.prediction_page import write_prediction_results
from seewhy.wording import LESION


def make_run(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": ["p1", "p2"], "val": ["p3"], "test": ["p4"]}))
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    datamodule = SimpleNamespace(is_phantom=False, words=LESION, predict_choice="data.predict_on=all")
    return SimpleNamespace(folder=RunFolder(tmp_path), checkpoint=tmp_path / "best.ckpt", datamodule=datamodule)


def test_patients_of_the_training_are_counted(tmp_path):
    rows = [{"id": f"{p}_L", "patient": p, "label": 0} for p in ("p1", "p2", "p3", "p4", "p5")]
    scores = {"accuracy": 0.8, "cases": 5.0, "patients": 5.0, "auroc": float("nan")}
    folder = tmp_path / "predictions"
    page = write_prediction_results(folder, make_run(tmp_path), scores, rows, name="x").read_text()
    record = json.loads((folder / "results.json").read_text())
    assert record["metrics"] == {"predict/accuracy": 0.8, "predict/cases": 5.0, "predict/patients": 5.0}
    assert [line[:6] for line in record["warnings"]] == ["2 of 5", "1 of 5"]
    assert "trained on" in page
    assert "chosen and calibrated on" in page
    assert (folder / "patients.csv").is_file()


def test_without_labels_nothing_is_scored_and_old_scores_are_removed(tmp_path):
    run, folder = make_run(tmp_path), tmp_path / "predictions"
    write_prediction_results(folder, run, {"accuracy": 0.8}, [{"id": "a", "patient": "p4"}], name="x")
    page = write_prediction_results(folder, run, {}, [], name="x").read_text()
    assert "not known" in page
    assert not (folder / "patients.csv").exists()
    assert json.loads((folder / "results.json").read_text())["warnings"] == []
