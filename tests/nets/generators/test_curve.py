"""The curve generator cannot draw: order, bounds and inverse, for networks far from their start."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.nets.generators.base import centre_slice
from seewhy.nets.generators.curve import MARGIN, CurveGenerator25D, apply_curves, invert_curves


def wild(**options):
    """A network with large random weights, whose curves differ much between nodes, modalities and samples."""
    torch.manual_seed(0)
    net = CurveGenerator25D(**{"width": 4, "cell": 16, **options}).eval()
    for layer in (net.to_curve, net.to_nodes):
        torch.nn.init.normal_(layer.weight, std=100.0)
        torch.nn.init.normal_(layer.bias, std=3.0)
    return net.double()


@pytest.fixture
def stack():
    return torch.rand(3, 12, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def test_it_starts_near_the_identity_and_all_parameters_learn(stack):
    torch.manual_seed(0)
    net = CurveGenerator25D(width=4)
    image = net(stack.float())
    assert (image - centre_slice(stack.float(), 4)).abs().max() < 2 * MARGIN * 0.01
    (image**2).mean().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (net.to_curve, net.to_nodes))
    net = wild()
    (net(stack) ** 2).mean().backward()
    assert [name for name, one in net.named_parameters() if one.grad is None or not one.grad.any()] == []


def test_curves_increase_everywhere_with_bounded_slopes(stack):
    net = wild()
    levels = net.curves(stack)
    assert levels.shape == (3, 4, net.segments + 1, 32, 48)
    slopes = levels.diff(dim=2) * net.segments / 2
    assert slopes.min() >= net.least_slope
    assert slopes.max() / slopes.min() > 2  # the network is far from its start
    assert levels.min() >= -1
    assert levels.max() <= 1
    assert levels.std(dim=(3, 4)).max() > 0.05  # and its curves differ between places


def test_the_brighter_of_two_values_at_a_place_stays_the_brighter_one(stack):
    net = wild()
    levels = net.curves(stack)
    low = torch.rand(3, 4, 32, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    high = low + (1 - low) * 1e-3
    rise = apply_curves(high, levels) - apply_curves(low, levels)
    assert (rise >= net.least_slope * (high - low) * (1 - 1e-6)).all()


@pytest.mark.parametrize("local", [0.0, 0.3, 1.0])
def test_order_within_a_neighbourhood_is_kept(stack, local):
    """Neighbours change places only if their values differ by less than the field's bound over the least slope."""
    net = wild(local=local)
    with torch.no_grad():
        before, after = centre_slice(stack, 4), net(stack)
    for axis in (2, 3):
        for distance in (1, 3):
            first, second = (
                values.narrow(axis, distance, values.shape[axis] - distance)
                - values.narrow(axis, 0, values.shape[axis] - distance)
                for values in (before, after)
            )
            bound = net.steepest_field * distance
            assert (second.abs() >= net.least_slope * first.abs() - bound - 1e-9).all()
            certain = net.least_slope * first.abs() > bound + 1e-9
            assert (first.sign() == second.sign())[certain].all()
            if local == 0:
                assert certain.all()


def test_a_field_never_changes_faster_than_its_bound(stack):
    net = wild(local=1.0)
    levels = net.curves(stack)
    for axis in (3, 4):
        assert levels.diff(dim=axis).abs().max() <= net.steepest_field


def test_the_inverse_is_exact(stack):
    net = wild()
    image, levels = centre_slice(stack, 4), net.curves(stack)
    image[:, :, :2], image[:, :, 2:4] = -1, 1  # the ends
    assert torch.allclose(invert_curves(apply_curves(image, levels), levels), image, atol=1e-12)
    single = net.float()
    moved = single(stack.float())
    assert torch.allclose(invert_curves(moved, single.curves(stack.float())), centre_slice(stack.float(), 4), atol=2e-5)


def test_a_known_curve():
    levels = torch.tensor([-1.0, 0.0, 0.5, 0.75, 1.0]).view(1, 1, 5, 1, 1).expand(-1, -1, -1, 1, 6)
    image = torch.tensor([-1.0, -0.75, -0.5, 0.0, 0.25, 1.0]).view(1, 1, 1, 6)
    assert apply_curves(image, levels).flatten().tolist() == pytest.approx([-1, -0.5, 0.0, 0.5, 0.625, 1.0])


def test_neighbours_choose_curves_but_are_not_drawn(stack):
    """A lesion in a neighbouring slice may move the curves, which it does for all pixels, not draw itself."""
    net = wild(local=0.0)
    changed = stack.clone()
    changed[:, :4, 8:12, 8:12] = 1
    levels = net.curves(changed)
    assert not torch.allclose(levels, net.curves(stack))
    assert torch.allclose(levels, levels[..., :1, :1].expand_as(levels))


def test_background_does_not_count_in_the_description_of_the_tissue():
    net = CurveGenerator25D(width=4)
    image = torch.full((1, 4, 32, 32), -1.0)
    image[..., :8] = 0.5
    wide = torch.nn.functional.pad(image, (0, 32), value=-1.0)
    assert torch.allclose(net._describe(image), net._describe(wide))
    assert net._describe(image).view(4, -1).sum(1).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": 12}, r"cell=12 must be a power of 2"),
        ({"segments": 0}, r"segments=0"),
        ({"steepness": 1.0}, r"steepness=1.0 must be above 1"),
        ({"local": 1.5}, r"local=1.5 must be a share"),
    ],
)
def test_options_that_do_not_exist(options, words):
    with pytest.raises(ConfigError, match=words):
        CurveGenerator25D(**options)
