import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from seewhy.metrics.logistic import fit_logistic


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_log_odds_are_those_of_scikit_learn(strength):
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(60, 3)) * [1.0, 20.0, 0.1] + [0.0, 5.0, -2.0]
    positive = samples[:, 0] + 0.05 * samples[:, 1] + rng.normal(size=60) > 0.8
    score = fit_logistic(torch.from_numpy(samples), torch.from_numpy(positive), strength=strength)
    standard = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    reference = LogisticRegression(C=strength, class_weight="balanced", tol=1e-10, max_iter=5000)
    expected = reference.fit(standard, positive).decision_function(standard)
    np.testing.assert_allclose(score(torch.from_numpy(samples)).numpy(), expected, atol=1e-4)


def test_it_fits_inside_a_test_too():
    samples, positive = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([False, False, True, True])
    outside = fit_logistic(samples, positive)(samples)
    with torch.inference_mode():
        inside = fit_logistic(samples.clone(), positive.clone())(samples.clone())
    assert torch.equal(inside, outside)


def test_a_constant_feature_changes_nothing():
    samples, positive = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([False, True, False, True])
    padded = torch.cat([samples, torch.full_like(samples, 7.0)], dim=1)
    torch.testing.assert_close(fit_logistic(padded, positive)(padded), fit_logistic(samples, positive)(samples))
