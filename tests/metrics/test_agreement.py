"""Agreement between scanners: published and known answers, parity, and intervals that cover."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torchmetrics.functional import concordance_corrcoef

from seewhy.metrics.agreement import (
    average_ranks_of,
    compare_orders,
    concordance,
    correlate_ranks,
    intraclass_correlation,
    measure_agreement,
    measure_gain,
)

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Six targets and four judges, of Shrout & Fleiss 1979, table 2."""


def test_icc_of_a_published_example():
    assert round(intraclass_correlation(SHROUT_FLEISS), 2) == 0.29


def test_icc_by_hand():
    # Mean squares: patients 2.5, scanners 1, rest 0.
    assert intraclass_correlation([[0, 1], [1, 2], [3, 4]]) == pytest.approx(14 / 3 / (14 / 3 + 2 * 1.5 / 3))
    assert intraclass_correlation([[1, 1], [2, 2], [5, 5]]) == 1


def test_ccc_by_hand_and_as_in_torchmetrics():
    assert concordance([[1, 2], [2, 3], [3, 4]]) == pytest.approx(4 / 7)
    assert concordance([[1, 3], [2, 2], [3, 1]]) == pytest.approx(-1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12))
    y = 0.5 * y + x
    y += x.mean() - y.mean()  # torchmetrics divides variances by N - 1, which equal means cancel
    assert concordance(np.stack([x, y], axis=1)) == pytest.approx(
        float(concordance_corrcoef(torch.tensor(y), torch.tensor(x))), rel=1e-6
    )
    z = rng.normal(size=12)
    both = concordance(np.stack([x, y, z], axis=1))
    pairs = [concordance(np.stack([x, other], axis=1)) for other in (y, z)]
    assert both == pytest.approx(np.mean(pairs))


def test_neither_depends_on_unit_and_zero():
    table = np.asarray(SHROUT_FLEISS, float)
    for coefficient in (intraclass_correlation, concordance):
        assert coefficient(1000 * table - 7) == pytest.approx(coefficient(table))


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [[1.0], [2.0]], np.ones((8, 4))])
def test_nothing_to_agree_on_has_no_number(table):
    assert math.isnan(intraclass_correlation(table))
    assert math.isnan(concordance(table))
    assert measure_agreement(table)["icc"] == (None, None, None)


def test_intervals_need_three_patients_and_contain_the_value():
    assert measure_agreement(SHROUT_FLEISS[:2])["icc"].low is None
    for agreement in measure_agreement(SHROUT_FLEISS).values():
        assert agreement.low < agreement.value < agreement.high
    perfect = measure_agreement(np.arange(8.0)[:, None] + np.zeros(4))["icc"]
    assert perfect.value == perfect.high == 1
    assert perfect.low > 0.999


def coverage(name, *, skewed, trials, seed=0):
    """Share of intervals of eight heads on four scanners that contain the value of very many heads."""
    rng = np.random.default_rng(seed)
    shift, noise = np.linspace(-0.5, 0.5, 4), 0.3

    def draw(heads):
        own = rng.exponential(size=(heads, 1)) if skewed else rng.normal(size=(heads, 1))
        return own + shift + noise * rng.normal(size=(heads, 4))

    truth = {"icc": intraclass_correlation, "ccc": concordance}[name](draw(100_000))
    found = [measure_agreement(draw(8))[name] for _ in range(trials)]
    return np.mean([agreement.low <= truth <= agreement.high for agreement in found])


@pytest.mark.parametrize("name", ["icc", "ccc"])
def test_intervals_of_eight_heads_cover(name):
    assert coverage(name, skewed=False, trials=150) >= 0.89


@pytest.mark.slow
@pytest.mark.parametrize("name", ["icc", "ccc"])
def test_intervals_of_eight_heads_cover_for_skewed_values_too(name):
    assert coverage(name, skewed=False, trials=1000) >= 0.92
    assert coverage(name, skewed=True, trials=1000) >= 0.83


def test_a_gain_is_found_only_where_it_is_one():
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(8, 1))
    good, bad = heads + 0.1 * rng.normal(size=(8, 4)), heads + [0, 2, 4, 6] + 0.1 * rng.normal(size=(8, 4))
    assert measure_gain(good, bad) == {"icc": True, "ccc": True}
    assert measure_gain(bad, good) == {"icc": False, "ccc": False}
    assert measure_gain(good, good) == {"icc": None, "ccc": None}


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
