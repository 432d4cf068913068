import numpy as np
import pytest
import scipy.linalg
import torch

from seewhy.metrics.translation.feature_distances import frechet_distance


def whitened(rng, number, dimensions):
    """Samples whose mean is exactly 0 and whose covariance is exactly 1."""
    values = rng.normal(size=(number, dimensions))
    values -= values.mean(axis=0)
    return values @ np.linalg.inv(np.linalg.cholesky(np.cov(values.T))).T


def test_known_normal_distributions():
    rng = np.random.default_rng(0)
    first, second = whitened(rng, 50, 3), whitened(rng, 80, 3)
    shift, scale = np.array([1.0, -2.0, 0.5]), np.array([2.0, 3.0, 0.5])
    # Diagonal covariances: |shift|² + Σ (1 - scale)²
    expected = np.square(shift).sum() + np.square(1 - scale).sum()
    assert frechet_distance(first, second * scale + shift) == pytest.approx(expected)


def test_parity_with_the_matrix_root_and_with_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(5, 5))
    first, second = rng.normal(size=(40, 5)), rng.normal(size=(60, 5)) @ mixing + 0.3
    one, other = np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(one @ other).real
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + other - 2 * root)
    found = frechet_distance(first, second)
    assert found == pytest.approx(expected, rel=1e-6)

    features = torch.nn.Identity()
    features.num_features = 5
    metric = FrechetInceptionDistance(feature=features).set_dtype(torch.float64)
    metric.update(torch.from_numpy(first), real=True)
    metric.update(torch.from_numpy(second), real=False)
    assert found == pytest.approx(float(metric.compute()), rel=1e-6)


def test_fewer_samples_than_dimensions():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(6, 30)), rng.normal(size=(8, 30)) + 0.5
    one, other = np.cov(first.T), np.cov(second.T)
    values = np.linalg.eigvals(one @ other)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + other)
    expected -= 2 * np.sqrt(np.maximum(values.real, 0)).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)


def test_equal_samples_are_at_distance_0_and_order_does_not_matter():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) * 2
    assert frechet_distance(first, first[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="N, K >= 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
