"""What is made of scores, also of few."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from seewhy.metrics.classification.cases import CaseScores
from seewhy.metrics.segmentation.patient_scores import PatientScores
from seewhy.run.folder import RunFolder
from seewhy.run.results import describe_choice, write_results

CONFIG = OmegaConf.create({"name": "test", "seed": 3})


def scores_of(mask):
    scores = PatientScores()
    image, body = torch.rand(3, 1, 16, 16), torch.ones(3, 16, 16, dtype=torch.bool)
    batch = {"image": image, "body": body, "mask": mask, "patient": ["p"] * 3}
    scores.update({"maps": {"refined": torch.rand(3, 1, 16, 16)}}, batch)
    return {f"test/{name}": value for name, value in scores.compute().items()}, scores.rows()


def test_a_test_without_any_lesion_still_ends_in_a_report(tmp_path):
    metrics, rows = scores_of(torch.zeros(3, 16, 16, dtype=torch.uint8))
    write_results(RunFolder(tmp_path), metrics, rows, CONFIG, phantom=True)
    assert "test/refined/dice" not in json.loads((tmp_path / "results.json").read_text())["metrics"]
    assert (tmp_path / "report.html").is_file()
    assert json.loads((tmp_path / "results.json").read_text())["metrics"]["test/floor_nothing/lesion_dice"] == 1.0
    assert (tmp_path / "figures" / "scores.png").is_file()  # of the false positives


def test_a_test_with_a_lesion_is_drawn(tmp_path):
    mask = torch.zeros(3, 16, 16, dtype=torch.uint8)
    mask[:, 4:9, 4:9] = 1
    metrics, rows = scores_of(mask)
    write_results(RunFolder(tmp_path), metrics, rows, CONFIG, phantom=False)
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["phantom"] is False
    assert record["metrics"]["test/floor_body/dice"] > 0
    assert (tmp_path / "figures" / "scores.png").stat().st_size > 0
    assert "Phantom data" not in (tmp_path / "report.html").read_text()


def test_tested_cases_are_drawn_class_by_class(tmp_path):
    scores = CaseScores(classes=["normal", "late"], resamples=20, permutations=5)
    ids = [f"c{i}" for i in range(12)]
    batch = {"id": ids, "patient": ids, "label": torch.arange(12) % 2}
    scores.update({"logits": torch.randn(12, 2, generator=torch.Generator().manual_seed(0))}, batch)
    metrics = {f"test/{name}": value for name, value in scores.compute().items()}
    write_results(RunFolder(tmp_path), metrics, scores.rows(), CONFIG, phantom=True)
    assert (tmp_path / "figures" / "grading.png").stat().st_size > 0
    assert not (tmp_path / "figures" / "scores.png").exists()
    page = (tmp_path / "report.html").read_text()
    assert "Class by class" in page
    assert "12 cases of 12 patients" in page
    header, *rows = (tmp_path / "patients.csv").read_text().splitlines()
    assert header.startswith("id,patient,source,label,prediction,label_name,prediction_name,correct,performance_type")
    assert len(rows) == 12


@pytest.mark.parametrize(("auroc", "warned"), [(0.97, False), (0.96, True), (0.9, True)])
def test_a_classifier_that_does_not_beat_position_and_area_is_warned_of_in_the_report(auroc, warned, tmp_path):
    floors = {"test/floor_area/auroc": 0.95, "test/floor_position/auroc": 0.7, "test/floor_position_area/auroc": 0.96}
    write_results(RunFolder(tmp_path), {"test/auroc": auroc, **floors}, [], CONFIG, phantom=False)
    page = (tmp_path / "report.html").read_text()
    assert ("position and area of a slice" in page) == warned


class Measured(torch.nn.Module):
    measured_buffers = ("temperature", "presence_threshold", "intensity")

    def __init__(self, temperature, threshold):
        super().__init__()
        self.register_buffer("temperature", torch.tensor(temperature))
        self.register_buffer("presence_threshold", torch.tensor(threshold))


def test_what_was_fitted_without_a_chosen_checkpoint_is_named():
    text = describe_choice({}, None, model=Measured(1.5, [0.0]))
    assert "last checkpoint" in text
    assert "temperature" in text
    assert "fitted" not in describe_choice({}, None, model=Measured(1.0, [0.0]))


@pytest.mark.parametrize(
    ("temperature", "threshold", "named"),
    [
        (1.0, [0.0], []),
        (1.5, [0.0], ["temperature"]),
        (1.0, [0.0, 0.4], ["healthy"]),
        (0.5, [0.2], ["temp", "healthy"]),
    ],
)
def test_what_was_fitted_on_validation_is_named_and_nothing_else(temperature, threshold, named):
    text = describe_choice({"val/AUROC": 0.9}, "val/AUROC", model=Measured(temperature, threshold))
    assert "val/AUROC (0.9)" in text
    assert [word for word in ("temperature", "healthy") if word in text] == [
        word for word in ("temperature", "healthy") if any(word.startswith(part) for part in named)
    ]
