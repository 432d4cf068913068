import numpy as np
import pytest
from scipy import stats

from seewhy.metrics.bootstrap import bca_bounds, bootstrap_difference, bootstrap_interval

SCORES = [0.2, 0.9, 0.5, 0.7, 0.4, 0.85]


def test_the_same_values_give_the_same_interval_and_another_seed_another():
    first = bootstrap_interval(SCORES)
    assert first == bootstrap_interval(SCORES)
    assert first != bootstrap_interval(SCORES, seed=1)
    assert first.mean == pytest.approx(np.mean(SCORES))
    assert first.low < first.mean < first.high


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


def test_an_interval_is_never_narrower_than_students_and_ends_at_the_limits():
    found = bootstrap_interval(SCORES)
    error = stats.sem(SCORES)
    low, high = stats.t.interval(0.95, len(SCORES) - 1, loc=np.mean(SCORES), scale=error)
    assert found.low <= low + 1e-12
    assert found.high >= high - 1e-12
    wide = bootstrap_interval([0.1, 0.9, 0.95], limits=(0, 1))
    assert (wide.low, wide.high) == (0.0, 1.0)


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (2, 5), (5, 5)])
def test_zeros_and_ones_have_the_interval_of_a_proportion(hits, count):
    found = bootstrap_interval([1.0] * hits + [0.0] * (count - hits))
    wilson = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert tuple(found) == (hits / count, wilson.low, wilson.high)


def _draw_scores(kind, rng, count):
    """Scores of patients with a skewed distribution, and their true mean."""
    if kind == "dice":
        return rng.beta(5, 1, count), 5 / 6
    if kind == "dice with failures":
        failed = rng.random(count) < 0.2
        return np.where(failed, 0.02 * rng.random(count), rng.beta(8, 2, count)), 0.2 * 0.01 + 0.8 * 0.8
    if kind == "distance":
        return rng.lognormal(0, 0.8, count), np.exp(0.32)
    return rng.normal(0.6, 0.1, count), 0.6


KINDS = {"dice": (0, 1), "dice with failures": (0, 1), "distance": (0, np.inf), "normal": (-np.inf, np.inf)}


def _coverage(kind, count, trials):
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(trials):
        values, truth = _draw_scores(kind, rng, count)
        found = bootstrap_interval(values, limits=KINDS[kind], resamples=1000, seed=seed)
        hits += found.low <= truth <= found.high
    return hits / trials


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    assert 0.91 <= _coverage("normal", 30, 200) <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 30, 100])
@pytest.mark.parametrize("kind", list(KINDS))
def test_intervals_cover_skewed_scores_of_few_patients(kind, count):
    """At least 94 %, less two standard errors of the simulation; 92 % for heavy tails and failures at 10 patients."""
    hard = count == 10 and kind in ("dice with failures", "distance")
    assert _coverage(kind, count, 2000) >= (0.92 if hard else 0.94) - 0.01


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 30])
def test_bca_covers_an_auroc_better_than_percentiles(count):
    rng = np.random.default_rng(1)
    truth, hits = stats.norm.cdf(1.5 / np.sqrt(2)), 0
    trials = 500

    def auroc(positive, negative):
        return (positive[:, :, None] > negative[:, None, :]).mean(axis=(1, 2))

    for _ in range(trials):
        positive, negative = rng.normal(1.5, 1, count), rng.normal(0, 1, count)
        rows = rng.integers(0, count, (2, 600, count))
        values = auroc(positive[rows[0]], negative[rows[1]])
        out = [np.delete(positive, i) for i in range(count)]
        left_out = [float(auroc(kept[None], negative[None])[0]) for kept in out]
        left_out += [float(auroc(positive[None], np.delete(negative, i)[None])[0]) for i in range(count)]
        low, high = bca_bounds(values, float(auroc(positive[None], negative[None])[0]), np.array(left_out))
        hits += low <= truth <= high
    assert hits / trials >= 0.90


def test_bca_equals_scipys():
    values = np.random.default_rng(0).lognormal(0, 1, 25)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="BCa", random_state=np.random.default_rng(5), axis=-1
    )
    left_out = np.array([np.delete(values, i).mean() for i in range(len(values))])
    found = bca_bounds(expected.bootstrap_distribution, float(values.mean()), left_out)
    assert found == pytest.approx(tuple(expected.confidence_interval), rel=0.02)


def test_bca_of_undefined_scores_is_none():
    assert bca_bounds(np.array([np.nan, np.nan, 0.5]), 0.5, np.array([0.5])) is None
    assert bca_bounds(np.array([0.4, 0.5, 0.6]), float("nan"), np.array([0.5])) is None


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


def test_differences_of_zeros_and_ones_are_no_proportion():
    same = bootstrap_difference([1, 0, 1, 0], [1, 0, 1, 0], limits=(0, 1))
    assert tuple(same) == (0, 0, 0)
    one_better = bootstrap_difference([1, 0, 1, 1], [1, 0, 1, 0], limits=(0, 1))
    assert one_better.low < 0 < one_better.mean
