"""Blocks of generators: self-attention as the full matrix gives it, without holding it; CBAM; instance norms."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import seewhy.explain as explain
from seewhy.errors import ConfigError
from seewhy.nets.generators import blocks as self_attention
from seewhy.nets.generators.blocks import CBAM, InstanceNorm2d, SelfAttention2d


def stated(net, x, limit=None):
    """The published formula with its matrix."""
    query, key, value = (part(x).flatten(2) for part in (net.query, net.key, net.value))
    logits = query.mT @ key / math.sqrt(query.shape[1])
    if limit is not None:
        logits = logits.clamp(-limit, limit)
    seen = value @ logits.softmax(dim=2).mT
    return net.gamma.clamp(-1, 1) * F.instance_norm(seen.unflatten(2, x.shape[2:])) + x, logits


def block(scale=1.0, gamma=0.7, **options):
    torch.manual_seed(5)
    net = SelfAttention2d(16, reduction=4, **options)
    with torch.no_grad():
        net.gamma.fill_(gamma)
        net.query.weight *= scale
        net.key.weight *= scale
    return net, torch.randn(2, 16, 6, 7, generator=torch.Generator().manual_seed(6), requires_grad=True)


def same(net, x, limit):
    expected, logits = stated(net, x, limit)
    pull = torch.randn_like(x)
    wanted = torch.autograd.grad((expected * pull).sum(), [x, *net.parameters()])
    found = net(x)
    assert torch.allclose(found, expected, atol=1e-5)
    for one, other in zip(torch.autograd.grad((found * pull).sum(), [x, *net.parameters()]), wanted, strict=True):
        assert torch.allclose(one, other, atol=2e-4, rtol=2e-4)
    return logits


def test_the_formula_and_its_gradient():
    same(*block(), None)
    same(*block(logit_limit=50.0), 50.0)


@pytest.mark.parametrize("rows", [1 << 24, 42 * 10])
def test_a_clamp_that_binds(rows, monkeypatch):
    """Also where the queries are taken in parts: 42 places, 10 at a time."""
    monkeypatch.setattr(self_attention, "MOST_LOGITS", rows)
    net, x = block(scale=8.0, logit_limit=2.0)
    logits = same(net, x, 2.0)
    assert (logits.abs() == 2.0).any()
    free, _ = block(scale=8.0)
    assert not torch.allclose(free(x), net(x), atol=1e-2)
    with torch.no_grad():
        assert torch.allclose(net(x), stated(net, x, 2.0)[0], atol=1e-5)


def test_a_clamp_that_cannot_bind_is_not_computed(monkeypatch):
    limits = []
    by_rows = self_attention._attend_by_rows
    monkeypatch.setattr(self_attention, "_attend_by_rows", lambda *given: limits.append(given[-1]) or by_rows(*given))
    net, x = block(logit_limit=50.0)
    assert torch.allclose(net(x), stated(net, x)[0], atol=1e-5)
    assert limits == [None]


@pytest.mark.parametrize("limit", [None, 0.4])
def test_gradient_of_parts_is_exact(monkeypatch, limit):
    monkeypatch.setattr(self_attention, "MOST_LOGITS", 21)
    random = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(2, count, width, dtype=torch.float64, generator=random, requires_grad=True)
        for count, width in ((5, 3), (7, 3), (7, 4))
    )
    assert torch.autograd.gradcheck(lambda *given: self_attention._attend_by_rows(*given, limit), (query, key, value))


@pytest.mark.parametrize(("gamma", "held"), [(3.0, 1.0), (-3.0, -1.0)])
def test_gamma_is_held(gamma, held):
    net, x = block(gamma=gamma)
    assert torch.equal(net(x), block(gamma=held)[0](x))


def test_it_begins_as_the_identity():
    net = SelfAttention2d(16)
    x = torch.randn(1, 16, 5, 5)
    assert torch.equal(net(x), x)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, forward or backward."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize("limit", [None, 0.5])
def test_no_matrix_of_all_places_is_made(monkeypatch, limit):
    monkeypatch.setattr(self_attention, "MOST_LOGITS", 40_000)
    net, _ = block(logit_limit=limit)
    x = torch.randn(1, 16, 40, 40, requires_grad=True)
    with Largest() as largest:
        net(x).sum().backward()
    assert 16 * 1600 <= largest.numel <= 40_000  # of 1600² = 2.56 million
    monkeypatch.setattr(self_attention, "MOST_LOGITS", 1600**2)
    with Largest() as largest:
        net(x).sum().backward()
    assert largest.numel == 1600**2  # what is measured is there


PEAK = """
import torch
from pathlib import Path
from seewhy.nets.generators.blocks import SelfAttention2d

def status(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024
torch.set_num_threads(1)
net, x = SelfAttention2d(32), torch.randn(1, 32, 96, 96, requires_grad=True)
net(x[..., :8, :8]).sum().backward()  # what kernels keep for themselves does not count
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
before = status("VmRSS")
net(x).square().mean().backward()
print(status("VmHWM") - before)
"""


def test_the_process_does_not_grow_by_a_matrix_either():
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 96**4 * 4 / 2**20 / 4  # MiB, a quarter of one matrix


def test_half_precision_on_the_way():
    net, x = block()
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)
    assert torch.allclose(found, stated(net, x)[0], atol=0.1)
    found.sum().backward()
    assert all(one.grad.dtype == torch.float32 for one in net.parameters())


def watched(net, x):
    """What the explanation of a module with this block sees."""

    class Scored(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = net

        def forward(self, image):
            return self.block(image).mean((2, 3))

    return explain.SelfAttention()(Scored(), x.detach()).maps["image"]


@pytest.mark.parametrize("limit", [None, 2.0])
def test_explanations_see_the_weights_as_they_were_used(monkeypatch, limit):
    """Also where logits are clamped and rows would be taken in parts."""
    monkeypatch.setattr(self_attention, "MOST_LOGITS", 420)
    net, x = block(scale=8.0, logit_limit=limit)
    weights = stated(net, x, limit)[1].softmax(dim=2).mean(1).unflatten(1, (6, 7))
    assert torch.allclose(watched(net, x), weights, atol=1e-5)


def test_widths_that_do_not_divide():
    with pytest.raises(ConfigError, match=r"channels=12.*reduction=8"):
        SelfAttention2d(12)
    with pytest.raises(ConfigError, match="logit_limit=0"):
        SelfAttention2d(16, logit_limit=0)


@pytest.mark.parametrize("channels", [8, 128])
def test_gates_are_the_formulas(channels):
    torch.manual_seed(1)
    net, x = CBAM(channels), torch.randn(2, channels, 9, 10)
    first, second = net.channel_attn.fc[1].weight[..., 0, 0], net.channel_attn.fc[3].weight[..., 0, 0]
    assert len(first) == max(channels // 16, 4)
    gate = ((x.mean((2, 3)) @ first.T).relu() @ second.T).sigmoid()[:, :, None, None]
    assert torch.allclose(net.channel_attn(x), gate, atol=1e-6)
    y = x * gate
    pooled = torch.stack([y.mean(1), y.max(1).values], 1)
    place = torch.nn.functional.conv2d(pooled, net.spatial_attn.conv.weight, padding=3).sigmoid()
    assert torch.allclose(net.spatial_attn(y), place, atol=1e-6)
    assert torch.allclose(net(x), y * place, atol=1e-6)


def test_a_gate_never_closes():
    net, x = CBAM(8), torch.rand(1, 8, 9, 9) + 1
    with torch.no_grad():
        for weight in net.parameters():
            weight.fill_(0.0)
        net.spatial_attn.conv.weight.fill_(-50.0)
    assert net.spatial_attn(x).max() < 1e-10
    assert torch.allclose(net(x), x * 0.5 * 0.01)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learns", [False, True])
def test_the_numbers_and_slopes_are_those_of_torch(memory_format, learns):
    random = torch.Generator().manual_seed(1)
    x = (3 * torch.randn(2, 5, 9, 8, generator=random, dtype=torch.float64) + 7).to(memory_format=memory_format)
    x.requires_grad_(learns)
    norm = InstanceNorm2d(5)
    found, wanted = norm(x), F.instance_norm(x)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert not norm.state_dict()
    if learns:
        pull = torch.randn(x.shape, generator=random, dtype=torch.float64)
        slopes = [torch.autograd.grad((one * pull).sum(), x)[0] for one in (found, wanted)]
        assert torch.allclose(*slopes, atol=1e-12)


def test_images_do_not_meet():
    """One image of a batch is normalised as if it were alone."""
    scales = torch.tensor([1.0, 9.0, 0.1])[:, None, None, None]
    x = scales * torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(2))
    norm = InstanceNorm2d(4)
    assert torch.allclose(norm(x), torch.cat([norm(one[None]) for one in x]), atol=1e-6)


def test_a_map_of_one_place_cannot_be_normalised():
    with pytest.raises(ValueError, match="more than 1"):
        InstanceNorm2d(4)(torch.zeros(1, 4, 1, 1))
