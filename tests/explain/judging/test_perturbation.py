"""Smoothing against SciPy, and noise as smooth as asked."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from seewhy.explain.judging.perturbation import draw_noise_like, estimate_smoothness, smooth


@pytest.mark.parametrize("shape", [(40, 31), (12, 20, 17)])
def test_smoothing_is_that_of_scipy_with_mirrored_edges(shape):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    widths = torch.tensor([[2.0, 1.5, 3.0][: len(shape)], [1.6, 2.5, 4.0][: len(shape)]])
    found = smooth(image, widths)
    for row in range(2):
        expected = gaussian_filter(image[row].numpy(), widths[row].tolist(), mode="reflect", truncate=8)
        assert found[row].numpy() == pytest.approx(expected, abs=1e-4)


def test_smoothing_keeps_the_sum_and_by_nothing_the_image():
    image = torch.rand(2, 16, 9)
    assert smooth(image, 5.0).sum().item() == pytest.approx(image.sum().item(), rel=1e-5)
    assert smooth(image, 0.0) == pytest.approx(image, abs=1e-5)
    assert smooth(torch.ones(1, 1, 8, 8), 2.0) == pytest.approx(torch.ones(1, 1, 8, 8), abs=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 2.5, 6.0])
def test_smoothness_of_smoothed_noise_is_the_width(sigma):
    white = torch.randn(6, 160, 160, generator=torch.Generator().manual_seed(1))
    found = estimate_smoothness(smooth(white, torch.tensor([[sigma, 2 * sigma]])))
    assert found.mean(dim=0).tolist() == pytest.approx([sigma, 2 * sigma], rel=0.1)


def test_smoothness_without_any():
    assert estimate_smoothness(torch.ones(1, 8, 8)).tolist() == [[0.0, 0.0]]
    assert estimate_smoothness(torch.randn(1, 1, 9))[0, 0] == 0


def test_noise_is_as_smooth_as_the_map_and_the_same_in_any_batch():
    white = torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(2))
    maps = smooth(white, torch.tensor([[1.0, 1.0], [3.0, 3.0], [5.0, 2.0]])).relu()
    noise = draw_noise_like(maps, [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)])
    assert (estimate_smoothness(noise) / estimate_smoothness(maps)).numpy() == pytest.approx(1.0, rel=0.25)
    assert noise.flatten(1).mean(dim=1) == pytest.approx(torch.zeros(3), abs=1e-5)
    assert noise.flatten(1).std(dim=1) == pytest.approx(torch.ones(3), abs=1e-4)
    assert torch.equal(draw_noise_like(maps[1:2], [torch.Generator().manual_seed(6)])[0], noise[1])
