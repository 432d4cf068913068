import numpy as np
import pytest

from seewhy.metrics.bootstrap import bootstrap_difference, bootstrap_interval

SCORES = [0.2, 0.9, 0.5, 0.7, 0.4, 0.85]


def test_the_same_values_give_the_same_interval_and_another_seed_another():
    first = bootstrap_interval(SCORES)
    assert first == bootstrap_interval(SCORES)
    assert first != bootstrap_interval(SCORES, seed=1)
    assert first.mean == pytest.approx(np.mean(SCORES))
    assert min(SCORES) <= first.low < first.mean < first.high <= max(SCORES)


def test_more_confidence_is_a_wider_interval():
    narrow, wide = bootstrap_interval(SCORES, confidence=0.5), bootstrap_interval(SCORES, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_values_have_no_width():
    assert tuple(bootstrap_interval([0.25] * 5)) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5, 0.6, np.nan]])
def test_too_few_patients_give_no_interval(values):
    assert bootstrap_interval(values) is None


def test_unknown_values_are_left_out():
    assert bootstrap_interval([*SCORES, np.nan]) == bootstrap_interval(SCORES)


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        found = bootstrap_interval(generator.normal(0.6, 0.1, 30), resamples=300, seed=seed)
        hits += found.low <= 0.6 <= found.high
    assert 0.88 <= hits / 200 <= 0.98


def test_pairing_sees_a_small_constant_gain_under_large_spread():
    better = np.array(SCORES) + 0.01
    gain = bootstrap_difference(better, SCORES)
    assert gain.low > 0
    assert gain.mean == pytest.approx(0.01)
    assert bootstrap_interval(better).low < bootstrap_interval(SCORES).high


def test_a_patient_without_both_values_is_left_out_of_both():
    gain = bootstrap_difference([0.5, 0.6, 0.7, np.nan, 9.0], [0.4, 0.5, 0.6, 0.1, np.nan])
    assert gain.mean == pytest.approx(0.1)


def test_other_patients_are_refused():
    with pytest.raises(ValueError, match="3 and 2"):
        bootstrap_difference([1, 2, 3], [1, 2])


def test_confidence_is_a_share():
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(SCORES, confidence=95)
