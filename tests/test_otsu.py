import itertools

import numpy as np
import pytest

from seewhy.otsu import otsu_thresholds


def between_variance(values, thresholds):
    """Otsu's criterion from its definition, over the values themselves."""
    member = np.digitize(values, thresholds, right=True)
    total = 0.0
    for k in range(len(thresholds) + 1):
        part = values[member == k]
        if part.size:
            total += part.size / values.size * (part.mean() - values.mean()) ** 2
    return total


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_no_other_cut_separates_better(classes, seed):
    generator = np.random.default_rng(seed)
    # Whole numbers, one histogram bin each, so that the histogram loses nothing.
    values = np.concatenate([generator.normal(c, 3, generator.integers(20, 200)) for c in (10, 22, 30)]).round()
    bins = int(values.max() - values.min()) + 1
    best = max(
        between_variance(values, cut)
        for cut in itertools.combinations(np.arange(values.min(), values.max()) + 0.5, classes - 1)
    )
    found = otsu_thresholds(values, classes=classes, bins=bins)
    assert between_variance(values, found) == pytest.approx(best, rel=1e-12)


def test_two_and_three_groups_come_apart():
    values = np.repeat([0.0, 10.0, 50.0], [500, 300, 40])
    low, high = otsu_thresholds(values, classes=3)
    assert 0 <= low < 10 <= high < 50
    (cut,) = otsu_thresholds(np.repeat([-3.0, 4.0], [100, 7]))
    assert -3 <= cut < 4


def test_a_value_on_an_edge_of_the_histogram_is_of_the_class_above():
    (cut,) = otsu_thresholds([0.0] * 10 + [1.0] * 5 + [2.0] * 5, bins=2)
    assert 0 < cut < 1.0


def test_thresholds_follow_a_change_of_scale():
    values = np.random.default_rng(1).gamma(2.0, 1.0, 4000)
    moved = otsu_thresholds(values * 8 + 16, classes=3)
    assert moved == pytest.approx([t * 8 + 16 for t in otsu_thresholds(values, classes=3)])


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0], [7.0]])
def test_one_value_leaves_nothing_above(values):
    for classes in (2, 3):
        assert not np.any(np.array(values)[:, None] > otsu_thresholds(values, classes=classes))


def test_too_few_distinct_values_leave_nothing_above():
    assert otsu_thresholds([0.0, 1.0], classes=3) == [1.0, 1.0]


def test_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no values"):
        otsu_thresholds([])
    with pytest.raises(ValueError, match="classes=4"):
        otsu_thresholds([1.0, 2.0], classes=4)
