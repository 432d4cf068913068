"""Maps that know nothing: what they show, and that no network changes them."""

import pytest
import torch
from torch import nn

from seewhy.explain import Explainer
from seewhy.explain.judging.controls import (
    CentreControl,
    EdgeControl,
    IntensityControl,
    RandomControl,
    make_controls,
)


class Scorer(nn.Module):
    """Three scores of an image's mean, other ones for each seed."""

    def __init__(self, seed):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(seed)))

    def forward(self, image):
        return image.flatten(1).mean(dim=1)[:, None] * self.weight


@pytest.mark.parametrize("control", make_controls(), ids=lambda one: one.method)
@pytest.mark.parametrize("shape", [(2, 1, 9, 12), (2, 2, 1, 8, 9), (1, 1, 5, 8, 9)])
def test_every_control_is_an_explainer_of_the_image_alone(control, shape):
    assert isinstance(control, Explainer)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps, other = (control(Scorer(seed), image, target=seed) for seed in (0, 1))
    assert maps.maps["image"].shape == (shape[0], *shape[2:])
    assert torch.equal(maps.maps["image"], other.maps["image"])
    assert maps.evidence()["image"].min() >= 0
    assert maps.method.startswith("control_")
    assert not torch.equal(maps.scores, other.scores)


def show(control, image):
    return control(Scorer(0), image).maps["image"]


def test_the_edge_of_a_step_is_where_it_is():
    image = torch.zeros(1, 1, 6, 8)
    image[..., 4:] = 2.0
    assert show(EdgeControl(), image)[0, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_the_brightest_pixel_has_the_highest_intensity():
    image = torch.tensor([[[[-3.0, 1.0], [5.0, 0.0]], [[-1.0, 1.0], [5.0, 2.0]]]])
    assert show(IntensityControl(), image)[0].tolist() == [[0.0, 3.0], [7.0, 3.0]]


def test_the_centre_is_in_the_middle_and_even():
    found = show(CentreControl(), torch.randn(1, 1, 9, 11))[0]
    assert found[4, 5] == 1.0 == found.max()
    assert torch.equal(found, found.flip(0))
    assert torch.equal(found, found.flip(1))


def test_noise_is_of_the_image_and_the_seed_not_of_the_batch():
    image = torch.randn(3, 1, 16, 16)
    state = torch.get_rng_state()
    found, alone = show(RandomControl(), image), show(RandomControl(), image[1:2])
    assert torch.equal(found[1], alone[0])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(show(RandomControl(seed=1), image[1:2]), alone)
    assert torch.equal(torch.get_rng_state(), state)
