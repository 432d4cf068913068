import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_average_precision,
    multiclass_calibration_error,
    multiclass_cohen_kappa,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from seewhy.metrics.classification.measures import case_measures, confusion_matrices, expected_calibration_error


def some_cases(n=120, classes=4, seed=0, *, ties=False):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[label]
    if ties:
        logits = np.round(logits)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probability, label


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_those_of_torchmetrics(classes, ties):
    probability, label = some_cases(classes=classes, ties=ties)
    found = {name: float(value[0]) for name, value in case_measures(probability, label, ordinal=True).items()}
    # float64 probabilities, so that rounding does not make other ties.
    p, y = torch.tensor(probability), torch.tensor(label)
    assert found["accuracy"] == pytest.approx(float(multiclass_accuracy(p, y, classes, average="micro")))
    assert found["balanced_accuracy"] == pytest.approx(float(multiclass_recall(p, y, classes, average="macro")))
    assert found["f1"] == pytest.approx(float(multiclass_f1_score(p, y, classes, average="macro")))
    assert found["auroc"] == pytest.approx(float(multiclass_auroc(p, y, classes)), abs=1e-6)
    precision = multiclass_average_precision(p, y, classes, average=None)
    expected = precision[1] if classes == 2 else precision.mean()
    assert found["average_precision"] == pytest.approx(float(expected), abs=1e-6)
    assert found["kappa"] == pytest.approx(float(multiclass_cohen_kappa(p, y, classes, weights="quadratic")), abs=1e-6)
    assert found["ece"] == pytest.approx(float(multiclass_calibration_error(p, y, classes, n_bins=15)), abs=1e-6)
    assert found["mae"] == pytest.approx(np.abs(probability.argmax(1) - label).mean())
    for k in range(classes):
        assert found[f"recall_{k}"] == pytest.approx(float(multiclass_recall(p, y, classes, average=None)[k]))
        assert found[f"precision_{k}"] == pytest.approx(float(multiclass_precision(p, y, classes, average=None)[k]))
        assert found[f"auroc_{k}"] == pytest.approx(float(multiclass_auroc(p, y, classes, average=None)[k]), abs=1e-6)
    unordered = case_measures(probability, label)
    assert float(unordered["kappa"][0]) == pytest.approx(float(multiclass_cohen_kappa(p, y, classes)), abs=1e-6)
    assert "mae" not in unordered


def test_quadratic_kappa_by_hand():
    # Rows true, columns predicted; cost (i - j)²/4: observed (2·1 + 1·4)/10/4, expected from the margins.
    matrix = np.array([[3, 1, 1], [0, 2, 0], [0, 1, 2]])
    label, prediction = np.nonzero(matrix)
    label, prediction = (np.repeat(x, matrix[matrix > 0]) for x in (label, prediction))
    rows, columns = matrix.sum(1), matrix.sum(0)
    cost = np.array([[0, 1, 4], [1, 0, 1], [4, 1, 0]])
    expected = 1 - (matrix * cost).sum() / ((np.outer(rows, columns) / 10) * cost).sum()
    found = case_measures(np.eye(3)[prediction], label, ordinal=True)
    assert float(found["kappa"][0]) == pytest.approx(expected)
    assert (confusion_matrices(prediction, label, 3)[0] == matrix).all()


def test_calibration_error_by_hand():
    # Bin of 0.9: confidence 0.9, three of four right; bin of 0.6: 0.6, none of one right.
    probability = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    label = np.array([0, 0, 0, 1, 1])
    assert expected_calibration_error(probability, label)[0] == pytest.approx((4 * 0.15 + 1 * 0.6) / 5)


def test_brier_and_log_loss_by_hand():
    probability, label = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]]), np.array([0, 2])
    found = case_measures(probability, label)
    assert float(found["brier"][0]) == pytest.approx((0.09 + 0.04 + 0.01 + 0.25 + 0.25) / 2)
    assert float(found["nll"][0]) == pytest.approx(-(np.log(0.7) + np.log(0.5)) / 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_a_weight_is_a_number_of_copies(seed, ties):
    """What a bootstrap does: every score of weighted cases is that of the cases repeated."""
    probability, label = some_cases(n=25, classes=3, seed=seed, ties=ties)
    weights = np.random.default_rng(seed).integers(0, 3, size=(2, 25))
    weights[:, :3] += 1
    weighted = case_measures(probability, label, weights, ordinal=True)
    for r in range(2):
        rows = np.repeat(np.arange(25), weights[r])
        plain = case_measures(probability[rows], label[rows], ordinal=True)
        for name, value in plain.items():
            np.testing.assert_allclose(weighted[name][r], value[0], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_class_without_cases_is_left_out_of_the_means():
    probability, label = some_cases(classes=4)
    keep = label != 2
    found = case_measures(probability[keep], label[keep])
    for name in ("recall_2", "f1_2", "auroc_2"):
        assert np.isnan(found[name][0])
    mean = np.mean([found[f"recall_{k}"][0] for k in (0, 1, 3)])
    assert found["balanced_accuracy"][0] == pytest.approx(mean)
    assert np.isfinite(found["auroc"][0])


def test_cases_of_one_class_alone_define_no_ranking():
    found = case_measures(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]), ordinal=True)
    assert np.isnan(found["auroc"][0])
    assert np.isnan(found["kappa"][0])
    assert found["accuracy"][0] == 1.0
