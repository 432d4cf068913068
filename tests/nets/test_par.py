import math

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.nets.par import PixelAdaptiveRefinement


def kernel(par):
    """Weights that a constant image leaves: the mean over the neighbours plus the weighted nearness."""
    distances = torch.tensor([math.hypot(*offset) for offset in par.offsets])
    nearness = torch.softmax(-((distances / distances.std() / par.scale) ** 2), 0)
    return 1 / len(par.offsets) + par.position_weight * nearness


def test_constant_image_has_one_fixed_kernel():
    par = PixelAdaptiveRefinement(downscale=1)
    weights = torch.stack(par.weights(torch.full((1, 2, 20, 24), 0.7)))
    assert weights.shape == (48, 1, 1, 20, 24)
    torch.testing.assert_close(weights, kernel(par).view(-1, 1, 1, 1, 1).expand_as(weights))


def test_weights_of_a_pixel_sum_to_one_and_a_hundredth():
    par = PixelAdaptiveRefinement(downscale=1)
    total = torch.stack(par.weights(torch.randn(2, 3, 30, 31))).sum(0)
    torch.testing.assert_close(total, torch.full_like(total, 1.01))


def test_constant_maps_grow_by_it_each_iteration():
    maps = torch.full((1, 2, 20, 20), 0.5)
    refined = PixelAdaptiveRefinement(downscale=1, iterations=7)(torch.randn(1, 1, 20, 20), maps)
    torch.testing.assert_close(refined, maps * 1.01**7)


def test_an_impulse_in_a_constant_image_spreads_by_the_kernel():
    par = PixelAdaptiveRefinement(downscale=1, iterations=1, dilations=[1, 3])
    maps = torch.zeros(1, 1, 21, 21)
    maps[..., 10, 10] = 1
    refined = par(torch.zeros(1, 1, 21, 21), maps)
    expected = torch.zeros(21, 21)
    for (row, column), weight in zip(par.offsets, kernel(par), strict=True):
        expected[10 - row, 10 - column] += weight
    torch.testing.assert_close(refined[0, 0], expected)


def test_an_edge_keeps_its_sides_apart():
    image = torch.zeros(1, 1, 64, 64)
    image[..., 32:] = 1
    maps = torch.zeros(1, 1, 64, 64)
    maps[..., 8:24] = 1  # evidence on the left side only, with gaps
    refined = PixelAdaptiveRefinement(downscale=1)(image, maps)
    left, right = refined[0, 0, :, :32], refined[0, 0, :, 32:]
    assert left.min() > 0.05
    assert right.max() < 0.02
    assert right.max() < left.min() / 3


def test_gain_and_offset_of_intensities_do_not_matter():
    image, maps = torch.randn(2, 1, 40, 44), torch.rand(2, 2, 40, 44)
    par = PixelAdaptiveRefinement()
    torch.testing.assert_close(par(70 * image - 300, maps), par(image, maps), atol=1e-4, rtol=1e-4)


def test_channels_are_refined_independently_and_batches_too():
    image, maps = torch.randn(3, 2, 33, 47), torch.rand(3, 2, 33, 47)
    par = PixelAdaptiveRefinement()
    together = par(image, maps)
    assert together.shape == (3, 2, 16, 23)
    assert par.size(image) == (16, 23)
    for b in range(3):
        for k in range(2):
            alone = par(image[b : b + 1], maps[b : b + 1, k : k + 1])
            torch.testing.assert_close(together[b : b + 1, k : k + 1], alone)


def test_zero_iterations_only_shrink():
    maps = torch.rand(1, 1, 8, 8)
    found = PixelAdaptiveRefinement(iterations=0)(torch.randn(1, 1, 16, 16), maps)
    assert torch.equal(found, maps)


def test_float32_under_autocast():
    image, maps = torch.randn(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    par = PixelAdaptiveRefinement()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(par(image.bfloat16().float(), maps), par(image.bfloat16().float(), maps.float()))
        assert par(image, maps).dtype == torch.float32


@pytest.mark.parametrize("options", [{"dilations": []}, {"dilations": [0]}, {"downscale": 0}, {"scale": 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match="refinement"):
        PixelAdaptiveRefinement(**options)
