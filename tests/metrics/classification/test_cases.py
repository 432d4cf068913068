import numpy as np
import pytest
import torch

from seewhy.errors import DataError
from seewhy.metrics.bootstrap import percentile_bounds, resampled_weights
from seewhy.metrics.classification import cases as cases_file
from seewhy.metrics.classification.cases import CaseScores

GRADES = ["normal", "early", "low", "advanced"]


def filled(n=40, *, classes=GRADES, seed=0, sharp=2.0, eyes=2, **options):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, len(classes), (n,), generator=generator)
    logits = torch.randn(n, len(classes), generator=generator) + sharp * torch.eye(len(classes))[label]
    scores = CaseScores(classes=classes, ordinal=True, **{"resamples": 100, "permutations": 50, **options})
    ids = [f"case{i}" for i in range(n)]
    patients = [f"p{i // eyes}" for i in range(n)]
    for part in (slice(0, 7), slice(7, n)):
        batch = {"id": ids[part], "patient": patients[part], "label": label[part], "source": ids[part]}
        scores.update({"logits": logits[part]}, batch)
    return scores, logits, label


def test_batches_and_repeated_cases_do_not_matter():
    scores, logits, label = filled()
    before = scores.compute()
    scores.update(
        {"logits": logits[:3] + 9}, {"id": ["case0", "case1", "case2"], "patient": ["p"] * 3, "label": label[:3]}
    )
    assert scores.compute() == before
    assert before["cases"] == 40
    assert before["patients"] == 20
    kept, known = scores.outputs()
    assert torch.equal(kept, logits)
    assert torch.equal(known, label)


def test_intervals_surround_their_scores_and_widen_with_eyes_of_one_patient():
    def width(found):
        return found["accuracy_high"] - found["accuracy_low"]

    generator = torch.Generator().manual_seed(0)
    label = torch.arange(60) % 3
    logits = torch.randn(60, 3, generator=generator) + torch.eye(3)[label]
    found = {}
    for copies in (1, 4):  # the same information; counted as 4 patients each it would look like more
        scores = CaseScores(classes=["a", "b", "c"], resamples=400, permutations=0)
        ids = [f"{i}_{j}" for i in range(60) for j in range(copies)]
        repeated = {"logits": logits.repeat_interleave(copies, 0)}
        batch = {"id": ids, "patient": [name.split("_")[0] for name in ids]}
        scores.update(repeated, {**batch, "label": label.repeat_interleave(copies)})
        found[copies] = scores.compute()
    assert found[1]["accuracy_low"] < found[1]["accuracy"] < found[1]["accuracy_high"]
    assert width(found[4]) == pytest.approx(width(found[1]), rel=0.3)
    assert found[4]["kappa"] == pytest.approx(found[1]["kappa"])


def test_pieces_of_the_bootstrap_do_not_matter(monkeypatch):
    scores, _, _ = filled()
    whole = scores.compute()
    monkeypatch.setattr(cases_file, "PIECE", 40 * 7)
    assert scores.compute() == pytest.approx(whole)


def test_the_floors_know_nothing():
    scores, _, label = filled(80)
    found = scores.compute()
    shares = torch.bincount(label, minlength=4) / 80
    assert found["floor_majority/accuracy"] == pytest.approx(float(shares.max()))
    assert found["floor_majority/balanced_accuracy"] == pytest.approx(0.25)
    assert found["floor_majority/kappa"] == pytest.approx(0.0)
    assert found["floor_majority/auroc"] == 0.5
    assert found["floor_prior/brier"] == pytest.approx(float((shares * (1 - shares)).sum()))
    assert found["floor_prior/nll"] == pytest.approx(float(-(shares * shares.log()).sum()), rel=1e-5)
    assert "floor_prior/accuracy" not in found
    assert found["floor_permuted/kappa"] == pytest.approx(0.0, abs=0.1)
    assert found["floor_permuted/auroc"] == pytest.approx(0.5, abs=0.05)
    assert found["floor_permuted/accuracy_high"] < found["accuracy"]


def test_a_deal_gives_every_patient_the_predictions_of_one_patient():
    patients = ["a", "a", "b", "c", "c", "c"]
    for order in cases_file._permute_patients(patients, 30, seed=0):
        given = [patients[source] for source in order]
        assert given[0] == given[1]
        assert len(set(given[3:])) == 1
        assert sorted({given[0], given[2], given[3]}) == ["a", "b", "c"]


def test_scores_of_a_class_are_not_taken_for_bounds():
    found = filled()[0].compute()
    assert 0 <= found["recall/low"] <= 1
    assert found["f1_low"] <= found["f1"] <= found["f1_high"]


def test_calibration_changes_certainty_only():
    scores, _, _ = filled()
    raw = scores.compute()
    scores.temperature = 4.0
    found = scores.compute()
    assert found["auroc"] != raw["auroc"] or found["brier"] != raw["brier"]
    assert found["accuracy"] == raw["accuracy"]
    assert found["uncalibrated/ece"] == raw["ece"]
    assert "uncalibrated/ece" not in raw


def test_rows_tell_what_happened():
    scores = CaseScores(classes=["HC", "TLE"], resamples=0, permutations=0)
    logits = torch.tensor([[-2.0], [1.0], [3.0], [-1.0]])
    batch = {"id": list("abcd"), "patient": list("wxyz"), "label": torch.tensor([0, 0, 1, 1]), "source": list("1234")}
    scores.update({"logits": logits}, batch)
    rows = scores.rows()
    assert [row["performance_type"] for row in rows] == ["TN", "FP", "TP", "FN"]
    assert [row["prediction_name"] for row in rows] == ["HC", "TLE", "TLE", "HC"]
    assert rows[2]["probability_TLE"] == pytest.approx(float(torch.tensor(3.0).sigmoid()))
    assert rows[2]["confidence"] == rows[2]["probability_TLE"]
    assert rows[0]["logit_0"] == -2.0
    assert "error" not in rows[0]
    assert list(rows[0])[:3] == ["id", "patient", "source"]
    graded = filled()[0].rows()[0]
    assert graded["error"] == graded["prediction"] - graded["label"]
    assert "performance_type" not in graded


def test_what_cannot_be_scored():
    scores = CaseScores(classes=GRADES)
    assert scores.compute() == {}
    assert scores.rows() == []
    scores.update({"logits": torch.zeros(1, 4)}, {"id": ["a"], "patient": ["a"]})
    assert scores.compute() == {}
    with pytest.raises(DataError, match="case b: label 7 is not a class; expected 0 to 3"):
        scores.update({"logits": torch.zeros(1, 4)}, {"id": ["b"], "patient": ["b"], "label": torch.tensor([7])})
    scores.update(
        {"logits": torch.zeros(2, 4)}, {"id": ["c", "d"], "patient": ["c", "d"], "label": torch.tensor([0, 1])}
    )
    assert not any(name.endswith("_low") for name in scores.compute())  # two patients bound nothing


def test_patients_are_drawn_whole():
    weights = resampled_weights(["a", "b", "a", "c"], resamples=300, seed=1)
    assert weights.shape == (300, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(4), abs=0.15)
    assert resampled_weights(["a", "a", "b"], resamples=10) is None


def test_bounds_of_resampled_values():
    assert percentile_bounds(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_bounds(np.array([1.0, np.nan, np.nan])) is None
