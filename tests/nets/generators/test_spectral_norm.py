"""Spectral norm is torch's: numbers, slopes, power iterations, names."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

from seewhy.nets.generators.discriminators import SpectralConv2d, SpectralNorm, spectral_norm


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
