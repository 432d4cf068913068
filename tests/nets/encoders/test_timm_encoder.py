"""timm networks behind the encoder interface."""

import math

import pytest
import timm
import torch

from seewhy.errors import ConfigError
from seewhy.nets.encoders.timm_encoder import TimmEncoder, record_attention


def count_hooks(module: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.mark.parametrize(
    ("name", "options", "strides", "heads"),
    [
        ("resnet18", {}, [2, 4, 8, 16, 32], 0),
        ("resnet18", {"output_stride": 8}, [2, 4, 8, 8, 8], 0),
        ("tf_efficientnet_lite0", {}, [2, 4, 8, 16, 32], 0),
        ("convnext_atto", {"output_stride": 16}, [4, 8, 16, 16], 0),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False, "depths": (1, 1, 1, 1)}, [4, 8, 16, 32], 0),
        ("pvt_v2_b0", {}, [4, 8, 16, 16], 16),
        ("pvt_v2_b0", {"output_stride": 32}, [4, 8, 16, 32], 16),
        ("pvt_v2_b0", {"output_stride": 8}, [4, 8, 8, 8], 16),
        ("pvt_v2_b2_li", {}, [4, 8, 16, 16], 0),
        ("deit_tiny_patch16_224", {"depth": 4}, [16] * 4, 6),
        ("deit_tiny_distilled_patch16_224", {"depth": 4}, [16] * 4, 6),
        ("vit_small_patch14_dinov2", {"depth": 2}, [14] * 2, 12),
    ],
)
def test_maps_and_attention_at_odd_sizes(name, options, strides, heads):
    encoder = TimmEncoder(name, in_channels=2, **options).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 2, 75, 101), attention=True)
    assert encoder.strides == strides
    assert encoder.attention_heads == heads
    expected = [(1, c, math.ceil(75 / s), math.ceil(101 / s)) for c, s in zip(encoder.channels, strides, strict=True)]
    assert [tuple(x.shape) for x in features.maps] == expected
    tokens = expected[-1][2] * expected[-1][3]
    assert all(tuple(a.shape[2:]) == (tokens, tokens) for a in features.attention)
    assert sum(a.shape[1] for a in features.attention) == heads
    assert count_hooks(encoder) == 0


@pytest.mark.parametrize(("name", "options"), [("pvt_v2_b0", {}), ("vit_tiny_patch16_224", {"depth": 3})])
def test_softmax_weights_are_those_the_network_mixes_with(name, options):
    """The peer's own weights: its kernel unfused, read at the input of its attention dropout."""
    encoder = TimmEncoder(name, pre_softmax=False, attention_blocks=2, **options).eval()
    layers = encoder._last_layers()
    seen = []
    handles = [layer.attn_drop.register_forward_pre_hook(lambda module, args: seen.append(args[0])) for layer in layers]
    image = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        fused = encoder(image, attention=True)
        for layer in layers:
            assert layer.fused_attn, "capturing must not unfuse"
            layer.fused_attn = False
        plain = encoder(image)
    for handle in handles:
        handle.remove()
    prefix = getattr(encoder.net, "num_prefix_tokens", 0)
    assert len(seen) == 2
    for ours, theirs in zip(fused.attention, seen, strict=True):
        torch.testing.assert_close(ours, theirs[..., prefix:, prefix:])
    for a, b in zip(fused.maps, plain.maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "head_dim"), [("pvt_v2_b0", 32), ("deit_tiny_patch16_224", 64)])
def test_logits_are_neither_scaled_nor_normalised(name, head_dim):
    raw = TimmEncoder(name, pre_softmax=True).eval()
    soft = TimmEncoder(name, pre_softmax=False).eval()
    soft.load_state_dict(raw.state_dict())
    image = torch.randn(1, 1, 64, 64)
    logits, weights = raw(image, True).attention[-1], soft(image, True).attention[-1]
    # Ratios within a row are what softmax keeps when class tokens take a share.
    row = (logits / math.sqrt(head_dim)).softmax(-1)
    torch.testing.assert_close(row, weights / weights.sum(-1, keepdim=True))


def test_vit_maps_are_tokens_in_row_major_order():
    encoder = TimmEncoder("vit_tiny_patch16_224", depth=1, attention_blocks=1).eval()
    image = torch.randn(1, 1, 32, 48)
    net = encoder.net
    tokens = net.norm(net.blocks[0](net._pos_embed(net.patch_embed(image))))[:, net.num_prefix_tokens :]
    torch.testing.assert_close(encoder(image).maps[-1].flatten(2).transpose(1, 2), tokens)


def test_vit_map_of_a_padded_image_is_the_crop_of_the_padded_maps():
    encoder = TimmEncoder("vit_tiny_patch16_224", depth=1, attention_blocks=1).eval()
    image = torch.randn(1, 1, 30, 41)
    padded = torch.nn.functional.pad(image, (0, 7, 0, 2), mode="replicate")
    torch.testing.assert_close(encoder(image).maps[-1], encoder(padded).maps[-1])


def test_image_smaller_than_one_window_of_keys():
    """The network sees 32 x 48 pixels; maps and attention are those of the tokens that the image covers."""
    encoder = TimmEncoder("pvt_v2_b0", pre_softmax=True).eval()
    image = torch.randn(1, 1, 9, 41)
    whole = torch.nn.functional.pad(image, (0, 7, 0, 23), mode="replicate")
    with torch.no_grad():
        small, large = encoder(image, attention=True), encoder(whole, attention=True)
    assert [tuple(x.shape[-2:]) for x in small.maps] == [(3, 11), (2, 6), (1, 3), (1, 3)]
    torch.testing.assert_close(small.maps[-1], large.maps[-1][..., :1, :3])
    for a, b in zip(small.attention, large.attention, strict=True):
        torch.testing.assert_close(a, b[..., :3, :3])


@pytest.mark.parametrize("name", ["pvt_v2_b0", "deit_tiny_patch16_224"])
def test_hooks_are_gone_after_an_exception(name):
    encoder = TimmEncoder(name)
    layers = encoder._last_layers()
    counts = []
    with pytest.raises(RuntimeError), record_attention(layers, pre_softmax=True):  # noqa: PT012
        counts.append(count_hooks(encoder))
        encoder.net(torch.randn(1, 5, 64, 64))
    assert counts == [4]
    assert count_hooks(encoder) == 0
    with pytest.raises(RuntimeError):
        encoder(torch.randn(1, 5, 64, 64), attention=True)
    assert count_hooks(encoder) == 0


@pytest.mark.parametrize(
    ("name", "options"),
    # The last one comes with an attention pooling behind its tokens.
    [("pvt_v2_b0", {}), ("deit_tiny_patch16_224", {}), ("vit_base_patch16_siglip_224", {"depth": 2})],
)
def test_autocast_and_gradients(name, options):
    encoder = TimmEncoder(name, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder(torch.randn(1, 1, 32, 32), attention=True)
    assert {a.dtype for a in features.attention} == {torch.float32}
    (features.maps[-1].float().mean() + sum(a.mean() for a in features.attention)).backward()
    unused = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert unused == [], "DDP refuses parameters without a gradient"


def test_convolutional_network_equals_timms_own():
    encoder = TimmEncoder("resnet18", in_channels=3).eval()
    peer = timm.create_model("resnet18", pretrained=False, features_only=True).eval()
    peer.load_state_dict(encoder.net.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(encoder(image).maps, peer(image), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("hrnet_w18_small", {"output_stride": 8}, "timm does not build"),
        ("deit_tiny_patch16_224", {"output_stride": 8}, "stride of its patches, 16"),
        ("pvt_v2_b0", {"output_stride": 7}, "choose 4, 8, 16 or 32"),
        ("pvt_v2_b0", {"attention_blocks": 9}, "choose 0 to 2"),
    ],
)
def test_options_that_do_not_fit(name, options, words):
    with pytest.raises(ConfigError, match=words):
        TimmEncoder(name, **options)
