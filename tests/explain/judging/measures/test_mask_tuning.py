"""A copy tuned with random masks: what it learns, and what stays as it was."""

import pytest
import torch
from tests.explain.judging.conftest import rings_and_disks
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import Explainable, InputXGradient, measure_faithfulness
from seewhy.explain.judging import tune_with_masks
from seewhy.explain.judging.measures.mask_tuning import draw_masks


@pytest.fixture(scope="module")
def tuned(trained):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    batches = [rings_and_disks(32, seed=seed).image for seed in (21, 22)]
    result = tune_with_masks(trained, batches, steps=100, rate=1e-2)
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    return result


def test_the_copy_predicts_from_masked_images_what_the_network_predicts_from_whole_ones(trained, tuned):
    assert tuned.after < 0.8 * tuned.before
    new = rings_and_disks(64, seed=23).image
    with torch.no_grad():
        agree = (trained(new).argmax(dim=1) == tuned.module(new).argmax(dim=1)).float().mean()
    assert agree > 0.85
    assert not any(parameter.grad is not None for parameter in tuned.module.parameters())


def test_a_copy_is_checked_on_images_held_out(trained):
    """A copy of four images learns these and not others; one of 64 passes the check."""
    held_out = [rings_and_disks(32, seed=31).image]
    few = tune_with_masks(trained, [rings_and_disks(4, seed=30).image], held_out=held_out, steps=60, rate=1e-2)
    assert "4 images to be tuned on and 32 held out" in few.problem
    many = tune_with_masks(trained, [rings_and_disks(64, seed=30).image], held_out=held_out, steps=60, rate=1e-2)
    assert many.problem == ""
    assert many.after < many.before
    unchecked = tune_with_masks(trained, [rings_and_disks(64, seed=30).image], steps=1)
    assert "0 held out" in unchecked.problem
    useless = tune_with_masks(trained, [rings_and_disks(8, seed=30).image], held_out=held_out, steps=1, rate=1e-9)
    assert "not clearly nearer" in useless.problem


def test_a_copy_that_cannot_be_tuned_fails_its_check():
    """A network that does not see its image is as far from its predictions as before."""
    constant = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    nn.init.zeros_(constant[1].weight)
    found = tune_with_masks(constant, [torch.rand(16, 1, 2, 2)], held_out=[torch.rand(8, 1, 2, 2)], steps=2)
    assert (found.tuned_on, found.checked_on, found.before) == (16, 8, 0)
    assert "not clearly nearer" in found.problem


def test_a_copy_leaves_a_start_that_is_wrong_and_certain():
    """Probabilities that calibration makes 0 must not end the tuning; its loss is that of the scores themselves."""

    class Certain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 2)

        def explainable(self):
            return Explainable(temperature=1e-3)

        def forward(self, image):
            return self.layer(image.flatten(1))

    torch.manual_seed(0)
    net, images = Certain(), torch.randn(64, 1, 4, 4)
    found = tune_with_masks(net, [images[:32]], held_out=[images[32:]], steps=100, rate=1e-2, fill="zero")
    assert found.after < found.before


def test_images_of_several_sizes_and_inputs_are_tuned_on_in_turn():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, a, b):
            return torch.stack([a.mean((1, 2, 3)), b.mean((1, 2, 3))], dim=1) * self.weight

    batches = [
        {"a": torch.rand(n, 1, side, side), "b": torch.rand(n, 1, side, side)} for n, side in ((3, 4), (5, 6), (1, 4))
    ]
    found = tune_with_masks(Sum(), batches, steps=4)
    assert found.tuned_on == 9
    positional = [tuple(batch.values()) for batch in batches]
    assert torch.equal(tune_with_masks(Sum(), positional, steps=4).module.weight, found.module.weight)


def test_statistics_of_normalisation_stay(trained, tuned):
    kept = dict(tuned.module.named_buffers())
    assert all(torch.equal(value, kept[name]) for name, value in trained.named_buffers())


def test_the_same_seed_makes_the_same_copy(trained):
    batch = [rings_and_disks(4, seed=24).image]
    first, second, other = (tune_with_masks(trained, batch, steps=2, seed=seed).module for seed in (3, 3, 4))
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_curves_by_the_copy_have_a_smaller_gap_from_images_it_does_not_know(trained, tuned):
    """The probability of the target falls less on random masks: less of a fall is that of strange images."""
    cases = rings_and_disks(16, seed=25).image
    maps = InputXGradient()(trained, cases)
    by_network, by_copy = (measure_faithfulness(net, cases, maps, draws=2) for net in (trained, tuned.module))
    assert by_copy.random.mean() > by_network.random.mean()


def test_masks_have_all_shares_and_fit_several_inputs():
    images = {"a": torch.zeros(200, 1, 8, 8), "b": torch.zeros(200, 2, 3, 6, 6)}
    masks = draw_masks(images, torch.Generator().manual_seed(0))
    shares = {name: mask.flatten(1).float().mean(dim=1) for name, mask in masks.items()}
    assert masks["b"].shape == (200, 1, 3, 6, 6)
    assert shares["a"].min() < 0.1
    assert shares["a"].max() > 0.9
    assert torch.corrcoef(torch.stack(list(shares.values())))[0, 1] > 0.95


def test_nothing_to_tune_on_is_refused(trained):
    with pytest.raises(ConfigError, match="0 batches"):
        tune_with_masks(trained, [])
