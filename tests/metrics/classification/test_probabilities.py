import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seewhy.metrics.classification.measures import expected_calibration_error
from seewhy.metrics.classification.probabilities import (
    calibrated_probability,
    fit_temperature,
    ideal_calibration_error,
)


def labelled_by(logits, seed=0):
    """Labels drawn from the probabilities that logits state, which are therefore calibrated."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]


@pytest.fixture
def true_logits():
    return 2 * torch.randn(4000, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_on_calibrated_scores(true_logits, factor):
    label = labelled_by(true_logits)
    assert fit_temperature(factor * true_logits, label) == pytest.approx(factor, rel=0.05)


def test_the_temperature_lowers_log_loss_and_calibration_error_and_changes_no_prediction(true_logits):
    wrong = 3 * true_logits
    label = labelled_by(true_logits)
    fit, test = slice(0, 2000), slice(2000, None)
    temperature = fit_temperature(wrong[fit], label[fit])
    before, after = calibrated_probability(wrong[test]), calibrated_probability(wrong[test], temperature)
    assert F.nll_loss(after.log(), label[test]) < F.nll_loss(before.log(), label[test]) - 0.1
    errors = [expected_calibration_error(p.double().numpy(), label[test].numpy())[0] for p in (before, after)]
    assert errors[1] < errors[0] / 3
    assert torch.equal(before.argmax(dim=1), after.argmax(dim=1))


def test_the_temperature_is_a_minimum(true_logits):
    logits, label = 2 * true_logits[:300], labelled_by(true_logits)[:300]

    def loss(temperature):
        return float(F.cross_entropy(logits.double() / temperature, label)) + 0.5 * np.log(temperature) ** 2 / 300

    best = fit_temperature(logits, label)
    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01))


def test_few_cases_told_rightly_do_not_make_certainty():
    """Without the prior the best temperature of separable cases is 0."""
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    found = fit_temperature(logits, torch.tensor([0, 1]))
    assert 0.3 < found < 1.0
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) == 1.0


def test_it_can_be_fitted_where_validation_runs(true_logits):
    label = labelled_by(true_logits)
    expected = fit_temperature(true_logits, label)
    with torch.inference_mode():
        assert fit_temperature(true_logits.clone(), label.clone()) == expected


def test_a_single_logit_is_that_of_class_1():
    logits = torch.tensor([[1.2], [-3.0]])
    probability = calibrated_probability(logits, 2.0)
    assert torch.allclose(probability[:, 1], (logits[:, 0] / 2).sigmoid())
    assert torch.allclose(probability.sum(dim=1), torch.ones(2))
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    label = torch.tensor([1, 0])
    assert fit_temperature(logits, label) == fit_temperature(two, label)


def test_chance_level_of_the_calibration_error_falls_with_the_cases():
    probability = calibrated_probability(torch.randn(50, 4, generator=torch.Generator().manual_seed(0))).double()
    few, many = (ideal_calibration_error(p.numpy()) for p in (probability, probability.repeat(40, 1)))
    assert few > 0.05
    assert many < few / 4
    assert ideal_calibration_error(np.eye(3)) == 0.0
