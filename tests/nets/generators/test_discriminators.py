"""Discriminators that judge less noise and sharpness: those of halved images."""

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator


def build(**options):
    torch.manual_seed(0)
    return MultiScaleDiscriminator(width=8, scales=1, attention=False, **options).eval()


@pytest.fixture
def image():
    return torch.rand(2, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_halvings_judge_the_halved_image(image):
    net = build(halvings=1)
    assert torch.equal(net(image)[0], net.discriminators[0](net.downsample(image)))
    twice = MultiScaleDiscriminator(width=8, scales=2, attention=False, halvings=1)
    assert [tuple(scores.shape[2:]) for scores in twice(torch.rand(1, 4, 128, 128))] == [(6, 6), (2, 2)]
    with pytest.raises(ConfigError, match=r"1 scales after 1 halvings need sides of at least 47"):
        net(image[..., :46, :46])
    assert net(image[..., :47, :47])[0].shape[2:] == (1, 1)


@pytest.mark.parametrize("options", [{"halvings": -1}, {"scales": 0}])
def test_options_below_their_minimum(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        MultiScaleDiscriminator(**options)
