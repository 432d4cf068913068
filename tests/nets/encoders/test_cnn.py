"""The small convolutional encoder: sizes, field of view, options."""

import math

import pytest
import torch

from seewhy.errors import ConfigError
from seewhy.nets.encoders.cnn import CNN


@pytest.mark.parametrize("size", [(64, 64), (65, 63), (97, 130), (5, 3)])
def test_maps_have_the_stated_channels_and_ceil_sizes(size):
    net = CNN(in_channels=2, widths=(8, 12, 16), depths=(1, 2, 1), stage_strides=(2, 2, 1), dilations=(1, 1, 3)).eval()
    assert net.strides == [2, 4, 4]
    for x, stride, width in zip(net(torch.randn(2, 2, *size)).maps, net.strides, net.channels, strict=True):
        assert tuple(x.shape) == (2, width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))


@pytest.mark.parametrize(
    ("dilations", "radius"),
    # Radius in pixels of the last map's field of view: sum over layers of dilation × stride before the layer.
    [((1, 1, 1, 1), 1 + (2 + 4) + (4 + 4) + (4 + 4)), ((1, 1, 2, 4), 1 + (2 + 4) + 2 * (4 + 4) + 4 * (4 + 4))],
)
def test_field_of_view(dilations, radius):
    net = CNN(depths=(1, 2, 2, 2), dilations=dilations, norm="batch").eval()
    image = torch.zeros(1, 1, 257, 257, requires_grad=True)
    # A positive network everywhere, so that no ReLU hides a path.
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.1)
    net(image).maps[-1][0, 0, 32, 32].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (128 - radius, 128 + radius)


def test_depths_count_convolutions():
    net = CNN(depths=(1, 2, 3, 4))
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 10


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_sample_norms_do_not_mix_samples(norm):
    net = CNN(norm=norm, widths=(6, 12), depths=(1, 1), stage_strides=(2, 1), dilations=(1, 1))
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(net(images).maps[-1][1:2], net(images[1:2]).maps[-1])


def test_shift_by_the_stride_shifts_the_maps():
    net = CNN().eval()
    image = torch.zeros(1, 1, 160, 160)
    image[..., 60:90, 70:95] = torch.randn(30, 25, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here = net(image).maps[-1]
        there = net(image.roll((8, 4), (2, 3))).maps[-1]
    torch.testing.assert_close(here.roll((2, 1), (2, 3))[..., 8:-8, 8:-8], there[..., 8:-8, 8:-8])


def test_dropout_only_while_training():
    net = CNN(dropout=0.5)
    image = torch.randn(2, 1, 32, 32)
    assert not torch.equal(net(image).maps[-1], net(image).maps[-1])
    net.eval()
    assert torch.equal(net(image).maps[-1], net(image).maps[-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "bach"}, "'batch'"),
        ({"widths": (8, 16)}, "one entry per level"),
        ({"depths": (1, 0, 1, 1)}, "at least 1"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ConfigError, match=words):
        CNN(**options)
