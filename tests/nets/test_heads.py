"""Poolings with known answers, the classification head's two views, the decoder."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from seewhy.errors import ConfigError
from seewhy.nets.heads import ClassificationHead, Pooling, SegFormerHead


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Pooling("gmp"), 3.0),
        (Pooling("max"), 3.0),
        (Pooling("gap"), 1.0),
        (Pooling("topk", fraction=0.5), 2.5),
        (Pooling("topk", fraction=0.01), 3.0),
        (Pooling("topk", fraction=1.0), 1.0),
        (Pooling("lse", sharpness=2.0), 0.5 * math.log((math.e**6 + math.e**4 + 1 + math.e**-2) / 4)),
    ],
)
def test_known_answers(pooling, expected):
    assert pooling(values(3.0, 2.0, 0.0, -1.0)).item() == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.floats(0.01, 20))
def test_lse_lies_between_mean_and_maximum_and_a_constant_is_its_own_pooling(numbers, sharpness):
    x = values(*numbers)
    pooled = Pooling("lse", sharpness=sharpness)(x).item()
    assert x.mean().item() - 1e-2 <= pooled <= x.max().item() + 1e-2
    constant = Pooling("lse", sharpness=sharpness)(torch.full_like(x, numbers[0])).item()
    assert constant == pytest.approx(numbers[0], abs=1e-2)


def test_lse_stays_finite_in_half_precision():
    x = values(*[30.0] * 8).half().requires_grad_()
    pooled = Pooling("lse", sharpness=10.0)(x)
    pooled.sum().backward()
    assert pooled.item() == pytest.approx(30.0, abs=1e-2)
    assert x.grad.sum().item() == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("pooling", ["gmp", "gap", "max", "lse", "topk"])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_by_the_stated_order_of_pooling_and_convolution(pooling, bias):
    head = ClassificationHead(5, 3, pooling, bias)
    if bias:
        torch.nn.init.normal_(head.bias)
    x = torch.randn(2, 5, 6, 7)
    local = torch.einsum("kc,bchw->bkhw", head.weight[..., 0, 0], x)
    local = local + head.bias[:, None, None] if bias else local
    torch.testing.assert_close(head.activation_map(x), local)
    if pooling in ("gmp", "gap"):
        pooled = x.amax((2, 3)) if pooling == "gmp" else x.mean((2, 3))
        expected = pooled @ head.weight[..., 0, 0].T + (head.bias if bias else 0)
    else:
        expected = head.pooling(local)
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-5)
    assert head(x).shape == (2, 3)


def test_mean_before_and_after_the_convolution_are_the_same():
    head = ClassificationHead(4, 2, "gap")
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(head(x), head.activation_map(x).mean((2, 3)))


def test_state_dict_names_are_those_of_a_convolution():
    assert list(ClassificationHead(4, 2, "gmp", bias=False).state_dict()) == ["weight"]
    assert list(ClassificationHead(4, 2, "gmp", bias=True).state_dict()) == ["weight", "bias"]


def test_prior_is_the_probability_of_an_empty_map():
    head = ClassificationHead(4, 2, "lse", prior=0.1)
    torch.testing.assert_close(head(torch.zeros(1, 4, 3, 3)).sigmoid(), torch.full((1, 2), 0.1))


@pytest.mark.parametrize("options", [{"prior": 0.1, "bias": False}, {"prior": 1.0}, {"prior": 0.0}])
def test_prior_needs_a_bias_and_a_probability(options):
    with pytest.raises(ConfigError, match="prior"):
        ClassificationHead(4, 1, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"name": "lsee"}, "'lse'"), ({"sharpness": 0.0}, "sharpness"), ({"fraction": 0.0}, "fraction")],
)
def test_pooling_options_that_do_not_fit(options, words):
    with pytest.raises(ConfigError, match=words):
        Pooling(**options)


def test_decoder_equals_its_equations():
    channels, dim = [3, 5, 7], 4
    head = SegFormerHead(channels, 2, dim).eval()
    torch.nn.init.normal_(head.linear_fuse.bn.running_mean)
    maps = [torch.randn(2, c, s, s + 1) for c, s in zip(channels, (8, 4, 4), strict=True)]
    p = head.state_dict()
    levels = []
    for number, x in enumerate(maps, start=1):
        y = torch.einsum("dc,bchw->bdhw", p[f"linear_c{number}.proj.weight"], x)
        y = y + p[f"linear_c{number}.proj.bias"][:, None, None]
        levels.append(F.interpolate(y, size=(8, 9), mode="bilinear", align_corners=False))
    fused = F.conv2d(torch.cat([levels[2], levels[1], levels[0]], 1), p["linear_fuse.conv.weight"])
    fused = (fused - p["linear_fuse.bn.running_mean"][:, None, None]) / math.sqrt(1 + 1e-5)
    expected = F.conv2d(fused.relu(), p["linear_pred.weight"], p["linear_pred.bias"])
    torch.testing.assert_close(head(maps), expected, rtol=1e-4, atol=1e-5)
    assert head(maps).shape == (2, 2, 8, 9)


def test_decoder_has_the_published_names():
    names = {f"linear_c{i}.proj.{kind}" for i in range(1, 5) for kind in ("weight", "bias")}
    names |= {
        f"linear_fuse.bn.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    names |= {"linear_fuse.conv.weight", "linear_pred.weight", "linear_pred.bias"}
    assert set(SegFormerHead([4, 4, 4, 4], 2).state_dict()) == names


def test_decoder_drops_channels_only_while_training():
    head = SegFormerHead([4], 2, dropout=0.9)
    maps = [torch.randn(2, 4, 4, 4)]
    assert not torch.equal(head(maps), head(maps))
    head.eval()
    assert torch.equal(head(maps), head(maps))
