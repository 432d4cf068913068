"""MiT against timm's sibling network, a plain restatement of one block, and the published names and sizes."""

import math

import pytest
import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import PyramidVisionTransformerV2

from seewhy.errors import ConfigError
from seewhy.nets.encoders.mit import MIT_VARIANTS, MiT, TransformerBlock


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter, norms and biases too, a value that a mistake would show in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in))


def as_pvt_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in state.items():
        name = name.replace(".dwconv.dwconv.", ".dwconv.")
        kind = next(kind for kind in ("patch_embed", "block", "norm") if name.startswith(kind))
        stage, rest = name.removeprefix(kind).split(".", 1)
        stage = int(stage) - 1
        place = {
            "patch_embed": f"stages.{stage}.downsample",
            "block": f"stages.{stage}.blocks",
            "norm": f"stages.{stage}.norm",
        }
        renamed["patch_embed." + rest if kind == "patch_embed" and stage == 0 else f"{place[kind]}.{rest}"] = tensor
    return renamed


@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_equals_timms_pyramid_transformer(size):
    shape = MIT_VARIANTS["mit_nano"]
    peer = PyramidVisionTransformerV2(
        in_chans=2, num_classes=0, embed_dims=shape.widths, num_heads=shape.heads, depths=shape.depths,
        sr_ratios=(8, 4, 2, 1), mlp_ratios=(4, 4, 4, 4),
    ).eval()  # fmt: skip
    for module in peer.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    net = MiT("mit_nano", in_channels=2, stage_strides=(4, 2, 2, 2)).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    randomise(net)
    peer.load_state_dict(as_pvt_names(net.state_dict()), strict=True)
    image = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer.forward_intermediates(image, intermediates_only=True)
        for ours, theirs in zip(net(image).maps, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def restated_block(
    block: TransformerBlock, x: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 2 and 3 of the paper, head by head, from the parameters alone."""
    p = dict(block.named_parameters())
    B, N, C = x.shape
    heads, d, R = block.attn.heads, C // block.attn.heads, block.attn.reduction

    def norm(y, name, eps):
        return F.layer_norm(y, (C,), p[f"{name}.weight"], p[f"{name}.bias"], eps)

    def linear(y, name):
        return y @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    y = norm(x, "norm1", 1e-6)
    source = y
    if R > 1:
        grid = y.reshape(B, *size, C).permute(0, 3, 1, 2)
        small = F.conv2d(grid, p["attn.sr.weight"], p["attn.sr.bias"], stride=R)
        source = norm(small.permute(0, 2, 3, 1).reshape(B, -1, C), "attn.norm", 1e-5)
    q, kv = linear(y, "attn.q"), linear(source, "attn.kv")
    mixed, logits = [], []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        score = torch.einsum("bnd,bmd->bnm", q[..., part], kv[..., part])
        logits.append(score)
        mixed.append(torch.softmax(score / math.sqrt(d), -1) @ kv[..., C:][..., part])
    x = x + linear(torch.cat(mixed, -1), "attn.proj")
    y = linear(norm(x, "norm2", 1e-6), "mlp.fc1")
    grid = y.reshape(B, *size, -1).permute(0, 3, 1, 2)
    grid = F.conv2d(grid, p["mlp.dwconv.dwconv.weight"], p["mlp.dwconv.dwconv.bias"], padding=1, groups=4 * C)
    y = F.gelu(grid.permute(0, 2, 3, 1).reshape(B, N, -1))
    return x + linear(y, "mlp.fc2"), torch.stack(logits, 1)


@pytest.mark.parametrize(("reduction", "attention"), [(1, False), (1, True), (2, False), (2, True)])
def test_block_equals_its_equations(reduction, attention):
    block = TransformerBlock(12, 3, reduction, drop_path=0.0, pre_softmax=True)
    randomise(block)
    x = torch.randn(2, 30, 12, generator=torch.Generator().manual_seed(2))
    expected, logits = restated_block(block, x, (5, 6))
    out, weights = block(x, (5, 6), attention=attention)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    if attention:
        torch.testing.assert_close(weights, logits, rtol=1e-4, atol=1e-5)
    else:
        assert weights is None


def test_maps_do_not_depend_on_whether_attention_is_returned():
    net = MiT("mit_nano").eval()
    randomise(net)
    image = torch.randn(2, 1, 48, 80)
    with torch.no_grad():
        plain, full = net(image), net(image, attention=True)
    assert plain.attention == []
    assert len(full.attention) == 2
    for a, b in zip(plain.maps, full.maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_softmax_of_scaled_logits_is_the_other_kind_of_attention():
    raw = MiT("mit_nano", pre_softmax=True).eval()
    soft = MiT("mit_nano", pre_softmax=False).eval()
    randomise(raw)
    soft.load_state_dict(raw.state_dict())
    image = torch.randn(1, 1, 64, 64)
    head_dim = 128 // 8
    for logits, weights in zip(raw(image, True).attention, soft(image, True).attention, strict=True):
        torch.testing.assert_close((logits / math.sqrt(head_dim)).softmax(-1), weights)
        assert logits.min() < 0


@pytest.mark.parametrize("size", [(64, 64), (65, 63), (97, 130), (33, 20), (7, 5), (1, 1)])
def test_any_size_gives_maps_of_ceil_size(size):
    net = MiT("mit_nano").eval()
    features = net(torch.randn(1, 1, *size), attention=True)
    assert net.strides == [4, 8, 16, 16]
    for x, stride, width in zip(features.maps, net.strides, net.channels, strict=True):
        assert tuple(x.shape) == (1, width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    tokens = features.maps[-1].shape[-2] * features.maps[-1].shape[-1]
    assert [tuple(a.shape) for a in features.attention] == [(1, 8, tokens, tokens)] * 2
    assert sum(a.shape[1] for a in features.attention) == net.attention_heads


@pytest.mark.parametrize(
    ("variant", "millions"),
    # Xie et al. 2021, table 1a, encoder parameters.
    [("mit_b0", 3.4), ("mit_b1", 13.1), ("mit_b2", 24.2), ("mit_b3", 44.0), ("mit_b4", 60.8), ("mit_b5", 81.4)],
)
def test_sizes_of_the_paper(variant, millions):
    with torch.device("meta"):
        net = MiT(variant, in_channels=3)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_epsilons_are_those_the_published_weights_were_trained_with():
    norms = {n: m.eps for n, m in MiT("mit_nano").named_modules() if isinstance(m, torch.nn.LayerNorm)}
    assert len(norms) == 4 + 4 + 3 + 2 * 5
    for name, eps in norms.items():
        assert eps == (1e-5 if name.startswith("patch_embed") or name.endswith("attn.norm") else 1e-6), name


def test_afa_freezes_sixty_tensors_of_b1_by_name():
    with torch.device("meta"):
        names = [name for name, _ in MiT("mit_b1").named_parameters()]
    assert sum("norm" in name for name in names) == 60


def test_gradients_of_the_attention_reach_the_first_stage():
    net = MiT("mit_nano")
    sum(a.mean() for a in net(torch.randn(1, 1, 32, 32), attention=True).attention).backward()
    assert net.patch_embed1.proj.weight.grad.abs().sum() > 0


def test_attention_is_float32_under_autocast():
    net = MiT("mit_nano").eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        exact = net(image, attention=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = net(image, attention=True)
    assert {a.dtype for a in half.attention} == {torch.float32}
    for a, b in zip(exact.attention, half.attention, strict=True):
        assert (a - b).abs().max() < 0.1 * a.abs().max()


def test_stochastic_depth_draws_only_while_training():
    torch.manual_seed(0)
    net = MiT("mit_nano", drop_path=0.9)
    image = torch.randn(4, 1, 32, 32)
    assert not torch.equal(net(image).maps[-1], net(image).maps[-1])
    net.eval()
    assert torch.equal(net(image).maps[-1], net(image).maps[-1])


def test_coarser_strides():
    net = MiT("mit_nano", stage_strides=(4, 2, 2, 2))
    assert net.strides == [4, 8, 16, 32]
    assert net(torch.randn(1, 1, 64, 64)).maps[-1].shape[-2:] == (2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention_blocks": 3}, "choose 0 to 2"),
        ({"attention_blocks": -1}, "choose 0 to 2"),
        ({"stage_strides": (4, 2, 2)}, "stage_strides"),
        ({"stage_strides": (4, 2, 2, 0)}, "stage_strides"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ConfigError, match=words):
        MiT("mit_nano", **options)


def test_unknown_variant_names_the_nearest():
    with pytest.raises(ConfigError, match="'mit_b1'"):
        MiT("mit_b11")


def test_no_attention_wanted():
    net = MiT("mit_nano", attention_blocks=0)
    assert net.attention_heads == 0
    assert net(torch.randn(1, 1, 32, 32), attention=True).attention == []
