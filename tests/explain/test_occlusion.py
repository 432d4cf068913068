"""Occlusion against Captum, and its windows."""

import captum.attr
import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import Occlusion


@pytest.mark.parametrize(
    ("shape", "window", "stride"), [((20, 28), (5, 7), (3, 4)), ((6, 9, 11), (2, 4, 5), (2, 3, 3))]
)
def test_maps_equal_captums(nets, shape, window, stride):
    net = nets.Net(len(shape), channels=2).eval()
    image = torch.randn(2, 2, *shape)
    peer = captum.attr.Occlusion(net).attribute(image, (2, *window), (2, *stride), 0.3, [2, 0])
    ours = Occlusion(window=window, stride=stride, fill=0.3)(net, image, target=[2, 0])
    torch.testing.assert_close(ours.maps["image"], peer[:, 0], rtol=1e-5, atol=1e-6)
    assert ours.baseline == "the number 0.3"


def test_several_inputs_equal_captums(nets, three):
    net = nets.Branches().eval()
    means = tuple(one.mean(dim=(2, 3), keepdim=True) for one in three.values())
    peer = captum.attr.Occlusion(net).attribute(
        tuple(three.values()), ((1, 10, 10),) * 3, ((1, 5, 5),) * 3, tuple(m.expand(3, 1, 20, 28) for m in means), 1
    )
    ours = Occlusion(window=10)(net, three, target=1)
    for name, one in zip(three, peer, strict=True):
        torch.testing.assert_close(ours.maps[name], one[:, 0], rtol=1e-5, atol=1e-6)


def test_a_score_that_is_a_sum_falls_by_what_is_hidden():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False))
    nn.init.ones_(net[1].weight)
    image = torch.rand(1, 1, 6, 8)
    maps = Occlusion(window=2, stride=2, fill="zero")(net, image, target=0).maps["image"]
    hidden = nn.functional.avg_pool2d(image, 2, divisor_override=1)[:, 0]
    torch.testing.assert_close(maps, hidden.repeat_interleave(2, 1).repeat_interleave(2, 2), rtol=1e-4, atol=1e-5)


def test_windows_that_change_nothing_cost_nothing(nets):
    net = nets.Net()
    image = torch.zeros(1, 1, 32, 32)
    image[:, :, 20:24, 20:24] = 1
    rows = []
    net.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    explainer = Occlusion(window=8, stride=8, fill="minimum")
    explainer(net, image, target=0)
    rows.clear()
    maps = explainer(net, image, target=0).maps["image"]
    assert rows == [1, 1]  # the scores, and one window of sixteen
    assert maps[0, 16:24, 16:24].abs().min() > 0
    assert maps.count_nonzero() == 64


def test_a_window_is_cut_to_the_image(nets, images):
    maps = Occlusion(window=100)(nets.Net(), images, target=0).maps["image"]
    assert all(one.unique().numel() == 1 for one in maps)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"window": [3, 3, 3]}, "3 numbers; the image has 2"), ({"window": 4, "stride": 5}, "never be hidden")],
)
def test_windows_that_do_not_fit_are_refused(nets, images, options, words):
    with pytest.raises(ConfigError, match=words):
        Occlusion(**options)(nets.Net(), images)
