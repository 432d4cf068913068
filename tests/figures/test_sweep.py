"""Importance of options, and the figure of a sweep."""

import numpy as np
import pytest

from seewhy.figures.sweep import SHOWN, Setting, measure_importance, sweep_figure


def test_importance_is_epsilon_squared():
    """By hand: groups 1, 2, 3 and 3, 4, 5: between 6, within 4, total 10; (6 − 1 · 4/4) / 10."""
    objective = [1.0, 2.0, 3.0, 3.0, 4.0, 5.0]
    assert measure_importance({"a": ["x"] * 3 + ["y"] * 3}, objective) == {"a": pytest.approx(0.5)}


def test_an_option_without_effect_has_none_on_average():
    rng = np.random.default_rng(0)
    values = [str(number) for number in np.repeat(range(5), 4)]
    shares = [measure_importance({"a": values}, list(rng.normal(size=20))).get("a", 0.0) for _ in range(300)]
    assert np.mean(shares) < 0.08  # eta squared is 4/19 = 0.21 on average


def test_many_numbers_are_compared_in_quarters():
    rates = np.geomspace(1e-4, 1e-2, 40)
    order = np.random.default_rng(1).permutation(40)
    options = {"lr": [str(rate) for rate in rates[order]], "id": [f"n{i}" for i in range(40)]}
    shares = measure_importance(options, list(np.log(rates[order])))
    assert shares["lr"] > 0.9
    assert "id" not in shares  # nothing to compare: every value occurs once


@pytest.mark.parametrize("objective", [[], [1.0], [2.0, 2.0]])
def test_nothing_to_compare(objective):
    assert measure_importance({"a": [str(i) for i in range(len(objective))]}, objective) == {}


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_settings_are_on_top(higher):
    settings = [Setting(f"lr={i}", [float(i), i + 0.5]) for i in range(SHOWN + 5)]
    figure = sweep_figure(settings, {"lr": 0.8}, objective="val/dice", higher=higher, phantom=True)
    left, right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert len(names) == SHOWN
    assert names[0] == (f"lr={SHOWN + 4}" if higher else "lr=0")
    assert "higher" * higher in left.get_xlabel()
    assert right.patches[0].get_width() == pytest.approx(0.8)
    assert "phantom" in figure._suptitle.get_text()
    assert "5 worse settings" in figure._supxlabel.get_text()


def test_spread_is_that_of_a_sample():
    assert Setting("a", [1.0, 3.0]).standard_deviation == pytest.approx(np.sqrt(2))
    assert np.isnan(Setting("a", [1.0]).standard_deviation)
