"""Discriminators judge halved images with less noise, spectral norms are those of torch, and samplers draw places."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

from seewhy.errors import ConfigError
from seewhy.nets.generators.discriminators import (
    MultiScaleDiscriminator,
    PatchSampler,
    SpectralConv2d,
    SpectralNorm,
    draw_places,
    spectral_norm,
)


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


def test_places_are_drawn_once_and_from_the_foreground():
    foreground = torch.zeros(2, 1, 16, 24, dtype=torch.bool)
    foreground[0, 0, 4:12, 8:16] = True
    foreground[1, 0, 0, 0] = True  # touches one place only
    like = torch.empty(0)
    places = draw_places((8, 12), 10, batch=2, foreground=foreground, like=like)
    rows, columns = places[0] // 12, places[0] % 12
    assert rows.min() >= 2
    assert rows.max() < 6
    assert columns.min() >= 4
    assert columns.max() < 8
    assert 0 in places[1].tolist()
    assert all(len(set(row.tolist())) == 10 for row in places)
    everywhere = draw_places((8, 12), 200, batch=2, foreground=None, like=like)
    assert torch.equal(everywhere.sort(dim=1).values, torch.arange(96).expand(2, -1))


def test_places_are_drawn_evenly():
    torch.manual_seed(0)
    counts = torch.bincount(draw_places((3, 4), 3, batch=4000, foreground=None, like=torch.empty(0)).flatten())
    assert counts.min() > 850
    assert counts.max() < 1150  # 1000 each


def test_vectors_are_those_of_their_places():
    torch.manual_seed(1)
    sampler = PatchSampler([3, 5], dim=7, patches=4)
    maps = [torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(2, 5, 3, 3)]
    vectors, places = sampler(maps)
    assert [one.shape for one in vectors] == [(2, 4, 7)] * 2
    assert torch.allclose(vectors[1].norm(dim=2), torch.ones(2, 4))
    row, column = divmod(int(places[0][1, 2]), 6)
    expected = torch.nn.functional.normalize(sampler.projections[0](maps[0][1, :, row, column]), dim=0)
    assert torch.allclose(vectors[0][1, 2], expected, atol=1e-6)
    again, same = sampler(maps, places)
    assert all(torch.equal(one, other) for one, other in zip(vectors, again, strict=True))
    assert same == places
    vectors[0].sum().backward()
    touched = maps[0].grad.abs().sum(1).flatten(1) > 0
    assert all(set(touched[b].nonzero().flatten().tolist()) == set(places[0][b].tolist()) for b in range(2))


def test_one_patch_cannot_be_told_from_others():
    with pytest.raises(ConfigError, match="patches=1"):
        PatchSampler([3], patches=1)


def twins(width=6):
    found, wanted = [], []
    for build, made in ((spectral_norm, found), (parametrizations.spectral_norm, wanted)):
        torch.manual_seed(4)
        made.append(build(nn.Conv2d(3, width, 4, 2, 1)))
    return found[0], wanted[0]


def test_it_begins_and_is_named_as_torch_has_it():
    ours, torchs = (one.state_dict() for one in twins())
    assert list(ours) == list(torchs)
    for name, tensor in ours.items():
        assert torch.allclose(tensor, torchs[name], atol=1e-6), name


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_uses_and_slopes_in_training_are_those_of_torch(memory_format):
    """Two uses before one backward pass: the first one's gradient must not see the second one's iteration."""
    image = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5))
    slopes = []
    for net in twins():
        net = net.to(memory_format=memory_format).train()
        out = net(image).square().mean() + 3 * net(image * 0.5).sin().mean()
        out.backward()
        slopes.append((net.parametrizations.weight.original.grad, net.parametrizations.weight[0]._u.clone(), out))
    for one, other in zip(*slopes, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_nothing_moves_outside_training():
    net = twins()[0].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net(torch.randn(1, 3, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_the_gradient_is_that_of_the_division():
    torch.manual_seed(6)
    weight = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    norm = SpectralNorm(weight).eval()
    assert torch.linalg.matrix_norm(norm(weight).flatten(1), 2).item() == pytest.approx(1, abs=0.05)
    assert torch.autograd.gradcheck(norm, weight)


class Outer(TorchDispatchMode):
    """Whether outer products are taken inside of autocast."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.addr.default:
            self.found.append(torch.is_autocast_enabled("cpu"))
        return func(*args, **(kwargs or {}))


def test_the_gradient_keeps_its_precision_inside_of_autocast():
    net = spectral_norm(SpectralConv2d(3, 6, 4, 2, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16), Outer() as outer:
        net(torch.randn(2, 3, 8, 8)).float().sum().backward()
    assert outer.found == [False]


def test_weights_can_be_set():
    net = twins()[0]
    net.weight = torch.ones_like(net.weight)
    assert torch.equal(net.parametrizations.weight.original, torch.ones(6, 3, 4, 4))
