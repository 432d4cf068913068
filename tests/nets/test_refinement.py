from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.nets.refinement import PixelAdaptiveRefinement, choose_level, refine_regions
from seewhy_run.arrays.regions import edge_strength


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


SHAPE = (24, 112, 112)


def ball(centre: tuple[float, float, float], radius: float) -> Tensor:
    """A ball whose slices are twice as thick as pixels are wide."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    distance = np.sqrt((2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return torch.from_numpy(distance < radius)


def noise(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def blurred(mask: Tensor, sigma: float = 4.0) -> Tensor:
    soft = ndimage.gaussian_filter(mask.float().numpy(), (sigma / 2, sigma, sigma))
    return torch.from_numpy(soft / soft.max())


def dice(a: Tensor, b: Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


BODY = ball((11.5, 55.5, 55.5), 52)
LESION = ball((11, 45, 65), 16)


def regions(image: Tensor, evidence: Tensor, body: Tensor = BODY, **options: object) -> Tensor:
    return refine_regions(image, evidence, body, **options) > 0.5  # type: ignore[arg-type]


def test_evidence_comes_back_where_intensities_tell_nothing() -> None:
    for image in (noise(), torch.zeros(SHAPE)):
        assert dice(regions(image, LESION.float(), evidence_sigma=(0.0, 0.0, 0.0)), LESION) > 0.99
        assert dice(regions(image, LESION.float()), LESION) > 0.85  # smoothing shrinks a ball at half its height


def test_constant_image_decides_by_evidence_at_the_level_exactly() -> None:
    evidence = blurred(LESION)
    options = {"coupling": 0.0, "evidence_sigma": (0.0, 0.0, 0.0)}
    found = regions(torch.zeros(SHAPE), evidence, **options)
    inside = torch.sort(evidence[BODY]).values
    peak = inside[-max(10, len(inside) // 5000) :].mean()
    torch.testing.assert_close(found, BODY & (evidence > 0.5 * peak))


def test_intensities_sharpen_blurred_evidence() -> None:
    evidence = blurred(LESION, 6.0)
    image = LESION.float() + 0.1 * noise()
    found = regions(image, evidence)
    coarse = (evidence > 0.5) & BODY
    assert dice(found, LESION) > 0.97
    assert dice(found, LESION) > dice(coarse, LESION) + 0.05


@pytest.mark.parametrize("gain", [4.0, 0.125, -1.0, -8.0])
def test_affine_change_of_intensities_changes_nothing(gain: float) -> None:
    """Dark lesions are found as bright ones are: the sign of the contrast is learned."""
    image, evidence = LESION.float() + 0.3 * noise(), blurred(LESION)
    expected = refine_regions(image, evidence, BODY)
    found = refine_regions(gain * image + 2.0, evidence, BODY)
    assert ((found > 0.5) == (expected > 0.5)).float().mean() > 0.9995
    assert dice(found > 0.5, LESION) > 0.95


def test_distractor_of_the_lesions_intensity_falls() -> None:
    distractor = ball((11, 80, 35), 12)
    image = (LESION | distractor).float() + 0.1 * noise()
    found = regions(image, blurred(LESION))
    assert not (found & distractor).any()
    assert dice(found, LESION) > 0.97


def test_region_without_enough_evidence_falls_but_never_the_only_one() -> None:
    weak = ball((11, 80, 35), 12)
    image = (LESION | weak).float() + 0.05 * noise()
    both = torch.maximum(blurred(LESION), 0.3 * blurred(weak))
    assert not (regions(image, both) & weak).any()
    assert dice(regions(image, 0.3 * blurred(LESION)), LESION) > 0.9


def test_evidence_on_a_part_reaches_the_whole_region() -> None:
    """A classifier that looks at half of the lesion still gives all of it, where it looks the same."""
    half = LESION.clone()
    half[:, :, :65] = False
    found = regions(LESION.float() + 0.1 * noise(), blurred(half, 5.0), level=0.3)
    assert dice(found, LESION) > 0.9 > dice(half, LESION)


def test_no_evidence_or_no_body_gives_nothing() -> None:
    image = LESION.float()
    assert not refine_regions(image, torch.zeros(SHAPE), BODY).any()
    assert not refine_regions(image, 0.05 * blurred(LESION), BODY).any()
    assert not refine_regions(image, LESION.float(), torch.zeros_like(BODY)).any()
    assert regions(image, 0.05 * blurred(LESION), floor=0.02).any()


def test_nothing_outside_the_body_is_read_or_chosen() -> None:
    evidence, image = blurred(LESION), LESION.float() + 0.1 * noise()
    body = BODY & (torch.arange(112) < 70)
    found = refine_regions(image, evidence, body)
    assert not found[~body].any()
    outside = torch.where(body, image, 1e4), torch.where(body, evidence, 1.0)
    torch.testing.assert_close(refine_regions(*outside, body), found, rtol=0, atol=0)


def test_hole_within_the_region_is_filled() -> None:
    core = ball((11, 45, 65), 5)
    image = (LESION & ~core).float() + 0.05 * noise()
    evidence = torch.where(core, 0.2, blurred(LESION))
    assert regions(image, evidence)[core].all()


def test_hole_of_a_ring_stays_open() -> None:
    core = ball((11, 45, 65), 8)
    image = (LESION & ~core).float() + 0.05 * noise()
    ring = LESION & ~core
    evidence = 0.8 * blurred(LESION)
    assert dice(regions(image, evidence, fill_holes=False), ring) > 0.95
    assert dice(regions(image, evidence, fill_holes=True), LESION) > 0.97


def test_lesion_with_most_evidence_stays_next_to_a_small_region_of_higher_mean() -> None:
    """Strong evidence on a part of the lesion, whose mean over all of it is below the level."""
    part, small = LESION & (torch.arange(112) > 72), ball((11, 80, 35), 5)
    image = (LESION | small).float() + 0.05 * noise()
    evidence = torch.where(part, 1.0, torch.where(LESION, 0.2, torch.where(small, 0.6, 0.0)))
    assert evidence[LESION].mean() < 0.4 < evidence[small].mean()
    found = regions(image, evidence, level=0.4, evidence_sigma=(0.0, 0.0, 0.0))
    assert dice(found & ~small, LESION) > 0.97
    assert dice(found & ~LESION, small) > 0.9


def test_level_without_clear_edges_is_the_one_given() -> None:
    evidence, image = blurred(LESION), noise()
    assert choose_level(image, evidence, BODY) is None
    given = refine_regions(image, evidence, BODY, unclear_level=0.7)
    torch.testing.assert_close(given, refine_regions(image, evidence, BODY, level=0.7), rtol=0, atol=0)


def test_level_of_clear_edges_is_the_one_that_the_regions_have() -> None:
    evidence, image = blurred(LESION, 8.0), LESION.float() + 0.05 * noise()
    level = choose_level(image, evidence, BODY)
    assert level is not None
    found = refine_regions(image, evidence, BODY, unclear_level=0.9)
    torch.testing.assert_close(found, refine_regions(image, evidence, BODY, level=level), rtol=0, atol=0)


def test_result_is_float_in_range_and_the_same_twice() -> None:
    image, evidence = LESION.float() + 0.5 * noise(), blurred(LESION)
    kept = evidence.clone()
    first = refine_regions(image.double(), evidence, BODY, iterations=2)
    assert first.dtype == torch.float32
    assert first.device == evidence.device
    assert 0 <= first.min() <= first.max() <= 1
    torch.testing.assert_close(first, refine_regions(image.double(), evidence, BODY, iterations=2), rtol=0, atol=0)
    torch.testing.assert_close(evidence, kept, rtol=0, atol=0)


def test_second_iteration_recovers_from_seeds_that_are_too_few() -> None:
    half = LESION.clone()
    half[:, :, :65] = False
    image, evidence = LESION.float() + 0.6 * noise(), blurred(half, 8.0)
    one = regions(image, evidence, level=0.9)
    two = regions(image, evidence, level=0.9, iterations=2)
    assert dice(two, LESION) > dice(one, LESION) + 0.04


@pytest.mark.parametrize(("power", "best"), [(0.3, 0.8), (1.0, 0.5), (3.0, 0.15)])
def test_level_follows_clear_edges_whatever_the_scale_of_the_evidence(power: float, best: float) -> None:
    image, evidence = LESION.float() + 0.05 * noise(), blurred(LESION, 8.0) ** power
    found = refine_regions(image, evidence, BODY)
    assert dice(found > 0.5, LESION) > 0.94
    torch.testing.assert_close(found, refine_regions(image, evidence, BODY, level=best), rtol=0, atol=0)


def test_level_is_one_half_without_clear_edges() -> None:
    for image in (noise(), torch.zeros(SHAPE), LESION.float() + 2 * noise()):
        expected = refine_regions(image, blurred(LESION), BODY, level=0.5)
        torch.testing.assert_close(refine_regions(image, blurred(LESION), BODY), expected, rtol=0, atol=0)


def test_edges_are_measured_relative_to_the_body() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 40, 40)).astype(np.float32)
    inside = np.ones(values.shape, bool)
    region = np.zeros(values.shape, bool)
    region[:, 10:30, 10:30] = True
    assert edge_strength(values, region, inside) == pytest.approx(1, abs=0.1)
    step = 4 * region.astype(np.float32)
    count = 2 * 40 * 39 * 4  # neighbours; 4 sides of 20 differ in each slice
    assert edge_strength(step, region, inside) == pytest.approx(count / (4 * 80))
    assert edge_strength(-8 * step, region, inside) == pytest.approx(count / (4 * 80))
    assert edge_strength(np.zeros_like(values), region, inside) == edge_strength(values, ~inside, inside) == 0


def test_wrong_shapes_and_iterations_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[24, 112, 112\].*\[24, 112, 56\]"):
        refine_regions(noise(), noise()[..., :56], BODY)
    with pytest.raises(ValueError, match="iterations=0"):
        refine_regions(noise(), noise(), BODY, iterations=0)
