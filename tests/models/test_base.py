"""Learning rates over a run."""

import math

import pytest

from seewhy.errors import ConfigError
from seewhy.models.base import learning_rate_factor


def curve(total=100, **options):
    return [learning_rate_factor(step, total=total, **options) for step in range(total + 1)]


def test_linear_decay_from_the_middle():
    for middle in (0.5, 50):
        found = curve(name="linear", decay_from=middle)
        assert found[:51] == [1.0] * 51
        assert found[50:] == pytest.approx([1 - step / 50 for step in range(51)])
    assert curve(name="linear")[25] == pytest.approx(0.75)


def test_linear_decay_with_warmup_and_floor():
    found = curve(name="linear", warmup=0.1, warmup_ratio=0.0, decay_from=0.5, floor=0.1)
    assert found[:11] == pytest.approx([step / 10 for step in range(11)])
    assert found[11:51] == pytest.approx([1.0] * 40)
    assert found[75] == pytest.approx(0.55)
    assert found[100] == pytest.approx(0.1)
    late = curve(name="linear", warmup=60, decay_from=20)
    assert late[60] == 1.0
    assert late[80] == pytest.approx(0.5)


@pytest.mark.parametrize("warmup", [0, 20, 0.2])
def test_cosine_to_a_floor(warmup):
    first = 20 if warmup else 0
    for floor in (0.0, 0.02):
        found = curve(name="cosine", warmup=warmup, floor=floor)
        for step in range(first, 101):
            shape = (1 + math.cos(math.pi * (step - first) / (100 - first))) / 2
            assert found[step] == pytest.approx(floor + (1 - floor) * shape)


def test_poly_has_a_floor_and_constant_none():
    assert curve(name="poly", power=2.0, floor=0.5)[50] == pytest.approx(0.5 + 0.5 * 0.25)
    assert set(curve(name="constant")) == {1.0}


@pytest.mark.parametrize("name", ["constant", "poly", "cosine", "linear"])
@pytest.mark.parametrize("options", [{}, {"warmup": 1.0}, {"decay_from": 2.0}])
def test_it_stays_a_share(name, options):
    for total in (1, 7):
        assert all(0 <= factor <= 1 for factor in curve(total, name=name, **options))


def test_unknown_name_is_said_at_the_first_step():
    with pytest.raises(ConfigError, match="'linaer' is unknown; nearest: 'linear'"):
        learning_rate_factor(0, name="linaer", total=10, warmup=5)
