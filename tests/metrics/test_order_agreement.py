import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from seewhy.metrics.order_agreement import average_ranks_of, compare_orders, correlate_ranks

NAN = math.nan


def test_correlation_is_scipys_with_ties_and_without_what_is_unknown():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, 12).astype(float), rng.normal(size=12)
        assert correlate_ranks(a, b) == pytest.approx(spearmanr(a, b).statistic)
        a[3], b[7] = NAN, NAN
        known = [i for i in range(12) if i not in (3, 7)]
        assert correlate_ranks(a, b) == pytest.approx(spearmanr(a[known], b[known]).statistic)


@pytest.mark.parametrize("first", [[1.0, 2.0], [1.0, 1.0, 1.0], [1.0, NAN, 2.0]])
def test_too_few_or_equal_values_have_no_correlation(first):
    assert math.isnan(correlate_ranks(np.array(first), np.arange(len(first), dtype=float)))


def test_average_ranks_count_each_member_alike():
    scores = np.array([[1.0, 2.0, 3.0], [100.0, 300.0, 200.0]])
    assert average_ranks_of(scores).tolist() == [0.0, 0.75, 0.75]
    assert average_ranks_of(1000 * scores).tolist() == [0.0, 0.75, 0.75]
    assert average_ranks_of(np.array([[1.0, 1.0, 2.0]])).tolist() == [0.25, 0.25, 1.0]


def test_items_that_a_member_lacks_are_ranked_by_the_others():
    ranks = average_ranks_of(np.array([[1.0, 2.0, NAN, NAN], [1.0, NAN, 2.0, NAN]]))
    assert ranks[:3].tolist() == [0.0, 1.0, 1.0]
    assert math.isnan(ranks[3])


@pytest.mark.slow
def test_the_interval_is_wide_where_phantoms_disagree():
    truth = np.tile(np.arange(8.0), (6, 1))
    groups = ["a", "a", "b", "b", "c", "c"]
    same = compare_orders(truth, truth, groups)
    assert (same.value, same.low, same.high, same.single, same.members) == (1.0, 1.0, 1.0, 1.0, 6)
    mixed = truth.copy()
    mixed[4:] = -mixed[4:]
    apart = compare_orders(mixed, truth, groups)
    assert apart.value == 1.0  # two of three
    assert apart.single == pytest.approx(1 / 3)
    assert apart.low == -1.0


def test_members_of_one_phantom_are_resampled_together():
    rng = np.random.default_rng(1)
    truth = np.tile(np.arange(10.0), (8, 1))
    shared = [np.arange(10.0) + 4 * rng.normal(size=10) for _ in range(2)]
    scores = np.stack([shared[i // 4] for i in range(8)])  # seeds of a phantom are copies of each other
    found = compare_orders(scores, truth, [i // 4 for i in range(8)])
    # A resample is one phantom twice, or both; nothing between them, as resampled seeds would give.
    possible = [compare_orders(scores[i], truth[i], [0] * len(i), resamples=0).value for i in ([0], [4], [0, 4])]
    assert found.low == pytest.approx(min(possible))
    assert found.high == pytest.approx(max(possible))


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(2)
    scores, truth = rng.normal(size=(2, 4, 6))
    first, again = (compare_orders(scores, truth, [0, 0, 1, 1], resamples=200) for _ in range(2))
    assert first == again
