import math

import numpy as np
import pytest
import torch

from seewhy.metrics.translation.feature_distances import (
    gaussian_kernel,
    kernel_table,
    median_width,
    polynomial_kernel,
)


def alone(number, start=0):
    """Every sample a subject of its own."""
    return [f"s{start + i}" for i in range(number)]


def test_small_case_by_hand():
    first, second = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]])
    table = kernel_table(first, second, subjects=(alone(2), alone(2, 5)), width=1.0)

    def k(distance):
        return math.exp(-(distance**2) / 2)

    expected = k(1) + k(2) - 2 * (k(0) + k(2) + k(1) + k(1)) / 4
    assert table.distance() == pytest.approx(expected)


def test_parity_of_kid_with_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(30, 7)), rng.normal(size=(25, 7)) + 0.3
    table = kernel_table(first, second, subjects=(alone(30), alone(25, 50)))
    equal = poly_mmd(torch.from_numpy(first[:25]), torch.from_numpy(second))
    assert table.distance(list(range(25))) == pytest.approx(float(equal), rel=1e-9)
    assert polynomial_kernel(first, second)[2, 3] == pytest.approx((first[2] @ second[3] / 7 + 1) ** 3)


def test_same_distribution_is_at_0_on_average_with_subjects_of_many_slices():
    """Each subject has its own mean, so that slices of one are alike; the unit of chance is the subject."""
    rng = np.random.default_rng(1)
    values, pooled = [], []
    for _ in range(300):
        draws = [(rng.normal(size=(5, 1, 2)) + 0.3 * rng.normal(size=(5, 8, 2))).reshape(40, 2) for _ in range(2)]
        owners = [f"p{i // 8}" for i in range(40)]
        values.append(kernel_table(*draws, subjects=(owners, owners), width=1.0).distance())
        pooled.append(kernel_table(*draws, subjects=(alone(40), alone(40)), width=1.0).distance())
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert np.mean(pooled) > 0.05  # slices taken for independent are no floor of 0


def test_other_distributions_are_apart():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 2
    near = kernel_table(first[:20], first[20:], subjects=(alone(20), alone(20, 50)), width=1.0)
    far = kernel_table(first, second, subjects=(alone(40), alone(40, 50)), width=1.0)
    assert far.distance() > 0.5 > 5 * abs(near.distance())
    values = far.resampled(resamples=100)
    assert values.shape == (100,)
    assert np.quantile(values, 0.025) < far.distance() < np.quantile(values, 0.975)
    drawn = np.random.default_rng(0)
    assert values[0] == far.distance(drawn.integers(0, 40, 40), drawn.integers(0, 40, 40))


def test_choosing_subjects_is_the_same_as_having_only_them():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(12, 3)), rng.normal(size=(9, 3))
    owners = ([f"a{i // 3}" for i in range(12)], [f"b{i // 3}" for i in range(9)])
    whole = kernel_table(first, second, subjects=owners, width=1.5)
    part = kernel_table(first[3:9], second[:6], subjects=(owners[0][3:9], owners[1][:6]), width=1.5)
    assert whole.distance([1, 2], [0, 1]) == pytest.approx(part.distance())
    # Twice the same subject is no pair of different ones.
    assert whole.distance([1, 1, 2, 2], [0, 1]) == pytest.approx(part.distance())


def test_a_subject_in_both_samples_is_never_compared_with_itself():
    """Travelling heads: scanned at both sites, they are alike, which is no likeness of the sites."""
    rng = np.random.default_rng(4)
    heads = rng.normal(size=(4, 1, 3)) * 2
    first, second = ((heads + 0.1 * rng.normal(size=(4, 5, 3))).reshape(20, 3) for _ in range(2))
    owners = [f"p{i // 5}" for i in range(20)]
    others = [f"q{i // 5}" for i in range(20)]
    paired, naive = (
        kernel_table(first, second, subjects=(owners, names), width=1.0) for names in (owners, others)
    )  # fmt: skip
    np.testing.assert_array_equal(paired.shared, np.eye(4, dtype=bool))
    assert naive.shared is None
    means = [paired.between[i, j] for i in range(4) for j in range(4) if i != j]
    off = ~np.eye(4, dtype=bool)
    expected = paired.within_first[off].mean() + paired.within_second[off].mean() - 2 * np.mean(means)
    assert paired.distance() == pytest.approx(expected)
    assert abs(paired.distance()) < 0.02 < -naive.distance()
    # Both samples are resampled alike, so that heads, not scans, are what was drawn.
    drawn = np.random.default_rng(0).integers(0, 4, 4)
    assert paired.resampled(resamples=1)[0] == pytest.approx(paired.distance(drawn, drawn))


def test_one_subject_gives_no_number():
    table = kernel_table(np.zeros((3, 2)), np.ones((4, 2)), subjects=(["p"] * 3, alone(4)), width=1.0)
    assert math.isnan(table.distance())
    assert table.resampled() is None


def test_width_is_the_median_distance():
    assert median_width(np.array([[0.0], [1.0]]), np.array([[5.0]])) == pytest.approx(4.0)
    assert median_width(np.zeros((4, 2)), np.zeros((4, 2))) == 1.0  # no width at all would divide by 0
    assert gaussian_kernel(np.zeros((1, 2)), np.array([[3.0, 4.0]]), width=5.0)[0, 0] == pytest.approx(math.exp(-0.5))
