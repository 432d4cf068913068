"""Rank correlation against SciPy, structural similarity against a window-by-window sum."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from seewhy.explain.judging.similarity import (
    average_ranks,
    join_maps,
    rank_correlation,
    structural_similarity,
    subsample,
)

few_values = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=40)


@given(few_values)
def test_ranks_are_those_of_scipy(pairs):
    values = [float(a) for a, _ in pairs]
    assert average_ranks(torch.tensor(values)).tolist() == rankdata(values).tolist()


@given(few_values)
def test_rank_correlation_is_that_of_scipy(pairs):
    first, second = (np.array(one, dtype=float) for one in zip(*pairs, strict=True))
    found = float(rank_correlation(torch.tensor(first)[None], torch.tensor(second)[None]))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_any_growing_function_keeps_the_ranks():
    values = torch.randn(3, 50)
    assert rank_correlation(values, values.exp()) == pytest.approx([1.0] * 3)
    assert rank_correlation(values, -values) == pytest.approx([-1.0] * 3)


def test_inputs_stand_side_by_side():
    maps = {"a": torch.tensor([[[1.0, 2.0]]]), "b": torch.tensor([[[[3.0]]]])}
    assert join_maps(maps).tolist() == [[1.0, 2.0, 3.0]]


def test_thinning_keeps_small_maps_and_the_correlation_of_large_ones():
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 2**17, generator=generator)
    assert subsample(small) is small
    first = torch.randn(1, 400_000, generator=generator)
    second = 0.5 * first + torch.randn(1, 400_000, generator=generator)
    assert subsample(first).shape == (1, 2**17)
    assert torch.equal(subsample(first), subsample(first))
    found, exact = rank_correlation(subsample(first), subsample(second)), rank_correlation(first, second)
    assert abs(float(found - exact)) < 0.01


@pytest.mark.parametrize("shape", [(9, 12), (8, 9, 10), (3, 9, 8)])
def test_structural_similarity_is_the_mean_over_windows(shape):
    generator = np.random.default_rng(0)
    a, b = generator.random(shape), generator.random(shape)
    found = float(structural_similarity({"x": torch.tensor(a)[None]}, {"x": torch.tensor(b)[None]}))
    a, b = a / a.max(), b / b.max()
    window = tuple(min(7, side) for side in shape)
    axes = tuple(range(len(shape), 2 * len(shape)))
    u, v = (np.lib.stride_tricks.sliding_window_view(one, window) for one in (a, b))
    mean_u, mean_v = u.mean(axes), v.mean(axes)
    covariance = (u * v).mean(axes) - mean_u * mean_v
    similarity = (2 * mean_u * mean_v + 1e-4) * (2 * covariance + 9e-4)
    similarity /= (mean_u**2 + mean_v**2 + 1e-4) * (u.var(axes) + v.var(axes) + 9e-4)
    assert found == pytest.approx(similarity.mean(), abs=1e-9)


def test_structural_similarity_knows_itself_at_any_scale():
    maps = {"a": torch.rand(2, 12, 12), "b": torch.rand(2, 4, 12, 12)}
    scaled = {name: one * torch.tensor([7.0, 0.01]).reshape(-1, *[1] * (one.ndim - 1)) for name, one in maps.items()}
    assert structural_similarity(maps, scaled) == pytest.approx([1.0, 1.0], abs=1e-5)
    shifted = {"a": maps["a"] * 0.1, "b": maps["b"]}  # the scale is one for both inputs
    assert (structural_similarity(maps, shifted) < 0.95).all()
