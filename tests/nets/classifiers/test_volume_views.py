"""Three views of a volume: what they compute, written out plainly, and what they refuse."""

import pytest
import torch
import torchvision
from monai.networks import nets as monai_nets
from torch import nn

from seewhy.errors import ConfigError
from seewhy.nets.classifiers.backbones import PlanarFeatures, SpatialFeatures
from seewhy.nets.classifiers.volume_views import GatedAttentionPooling, SliceView, build_view

SMALL_2D = {"name": "test_efficientnet"}
SMALL_3D = {"name": "resnet", "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 8, 8], "conv1_t_size": 3}


def volumes(batch=2, depth=5, size=32):
    return torch.randn(batch, 1, depth, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "channels"),
    [("test_efficientnet", 256), ("resnet18", 512), ("mobilenetv3_small_050", 1024), ("tf_efficientnetv2_s", 1280)],
)
def test_feature_width_is_asked_of_timm(name, channels):
    with torch.device("meta"):
        features = PlanarFeatures(name, in_channels=7)
        assert features.channels == channels
        assert features(torch.empty(2, 7, 64, 64)).shape == (2, channels, 2, 2)


@pytest.mark.parametrize(
    ("name", "channels"), [("efficientnet_b0", 1280), ("efficientnet_b7", 2560), ("efficientnet_v2_l", 1280)]
)
def test_feature_width_is_asked_of_torchvision(name, channels):
    with torch.device("meta"):
        features = PlanarFeatures(name, in_channels=115, library="torchvision")
        assert features.channels == channels
        assert features(torch.empty(1, 115, 64, 64)).shape == (1, channels, 2, 2)


def test_windowed_transformers_give_their_map_channels_first():
    features = PlanarFeatures("swin_tiny_patch4_window7_224", in_channels=1, img_size=64, window_size=2).eval()
    image = torch.randn(1, 1, 64, 64)
    assert torch.equal(features(image), features.net.forward_features(image).permute(0, 3, 1, 2))


def test_parameters_are_registered_once_under_the_librarys_names():
    ours = PlanarFeatures("efficientnet_b0", in_channels=3, library="torchvision").state_dict()
    theirs = torchvision.models.efficientnet_b0(weights=None).state_dict()
    assert set(ours) == {f"net.{name}" for name in theirs if name.startswith("features.")}


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("resnet10", lambda: monai_nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=2), {}),
        (
            "resnet",
            lambda: monai_nets.ResNet(
                "basic", [1, 1, 1, 1], [4, 8, 8, 8], n_input_channels=1, num_classes=2, no_max_pool=True
            ),
            {"layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8], "no_max_pool": True},
        ),
        (
            "densenet",
            lambda: monai_nets.DenseNet(3, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2)),
            {"init_features": 8, "growth_rate": 4, "block_config": [2, 2]},
        ),
        (
            "efficientnet_b0",
            lambda: monai_nets.EfficientNetBN(
                "efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1, num_classes=2
            ),
            {},
        ),
    ],
)
def test_maps_of_monai_networks_are_those_their_heads_pool(name, theirs, options):
    theirs = theirs().eval()
    ours = SpatialFeatures(name, **options).eval()
    kept = {key: value for key, value in theirs.state_dict().items() if key in ours.net.state_dict()}
    ours.net.load_state_dict(kept)
    volume = torch.randn(1, 1, 48, 32, 40)
    features = ours(volume)
    assert features.shape[:2] == (1, ours.channels)
    heads = [module for module in theirs.modules() if isinstance(module, nn.Linear)]
    pooled = features.mean(dim=(2, 3, 4))
    assert torch.allclose(heads[-1](pooled), theirs(volume), atol=1e-5)


def test_gated_attention_is_the_published_formula():
    torch.manual_seed(0)
    pooling = GatedAttentionPooling(6, hidden=4)
    slices = torch.randn(2, 5, 6)
    V, b_v = pooling.value.weight, pooling.value.bias
    U, b_u = pooling.gate.weight, pooling.gate.bias
    for bag, got, weights in zip(slices, pooling(slices), pooling.weights(slices), strict=True):
        e = torch.stack([torch.tanh(V @ h + b_v) * torch.sigmoid(U @ h + b_u) for h in bag])
        scores = (e @ pooling.score.weight[0] + pooling.score.bias).exp()
        assert torch.allclose(weights, scores / scores.sum(), atol=1e-6)
        assert torch.allclose(got, (weights[:, None] * bag).sum(dim=0), atol=1e-6)


def test_order_of_slices_does_not_matter_to_slices_and_does_to_channels():
    torch.manual_seed(0)
    volume, order = volumes(), [3, 0, 4, 1, 2]
    by_slice = build_view("slices", SMALL_2D, outputs=3).eval()
    as_channels = build_view("channels", SMALL_2D, outputs=3, depth=5).eval()
    with torch.no_grad():
        assert torch.allclose(by_slice(volume), by_slice(volume[:, :, order]), atol=1e-6)
        assert torch.allclose(by_slice.slice_weights(volume)[:, order], by_slice.slice_weights(volume[:, :, order]))
        assert not torch.allclose(as_channels(volume), as_channels(volume[:, :, order]), atol=1e-6)


def test_channels_view_is_the_2d_network_on_slices():
    torch.manual_seed(0)
    view = build_view("channels", SMALL_2D, outputs=2, depth=5, dropout=0.5).eval()
    volume = volumes()
    features = view.encoder.net(volume[:, 0])
    assert torch.allclose(view(volume), view.head(features.mean(dim=(2, 3))), atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_change_nothing_and_bound_each_call(chunk, monkeypatch):
    torch.manual_seed(0)
    view = SliceView(SMALL_2D, outputs=2, chunk=chunk).eval()
    volume = volumes(batch=2, depth=5)
    whole = view(volume)
    sizes = []
    forward = view.encoder.forward
    monkeypatch.setattr(view.encoder, "forward", lambda image: (sizes.append(len(image)), forward(image))[1])
    with torch.no_grad():
        assert torch.allclose(view(volume), whole, atol=1e-5)
    assert max(sizes) <= chunk
    assert sum(sizes) == 10


def test_a_hook_sees_all_slices_in_one_call():
    view = SliceView(SMALL_2D, outputs=2, chunk=2).eval()
    seen = []
    handle = view.encoder.register_forward_hook(lambda module, args, output: seen.append(output.shape[0]))
    with torch.no_grad():
        view(volumes(batch=2, depth=5))
    handle.remove()
    assert seen == [10]


@pytest.mark.parametrize(("view", "backbone"), [("channels", SMALL_2D), ("slices", SMALL_2D), ("volume", SMALL_3D)])
def test_every_parameter_learns_and_nothing_depends_on_the_rest_of_the_batch(view, backbone):
    torch.manual_seed(0)
    net = build_view(view, backbone, outputs=2, depth=5)
    volume = volumes()
    net(volume).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    net.eval()
    assert torch.allclose(net(volume)[:1], net(volume[:1]), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build_view("slice", SMALL_2D, outputs=2), "nearest: 'slices'"),
        (lambda: build_view("channels", SMALL_2D, outputs=2), "view=channels.*data.depth"),
        (lambda: build_view("slices", {"name": "test_efficentnet"}, outputs=2), "nearest: .*'test_efficientnet'"),
        (lambda: build_view("slices", {"name": "resnet18", "wdth": 2}, outputs=2), "timm does not build 'resnet18'"),
        (lambda: build_view("slices", {**SMALL_2D, "library": "keras"}, outputs=2), "library='keras'"),
        (
            lambda: build_view("channels", {"name": "resnet18", "library": "torchvision"}, outputs=2, depth=3),
            "'resnet18'",
        ),
        (lambda: build_view("volume", {"name": "resnet11"}, outputs=2), "nearest: .*'resnet10'"),
        (lambda: build_view("volume", {"name": "resnet10", "wide": 2}, outputs=2), "MONAI does not build"),
        (lambda: build_view("slices", SMALL_2D, outputs=2, chunk=0), "chunk_size=0"),
        (lambda: build_view("channels", SMALL_2D, outputs=2, depth=4)(volumes()), "5 slices.* 4"),
        (lambda: build_view("slices", SMALL_2D, outputs=2)(volumes()[:, 0]), "expected volumes"),
        (
            lambda: build_view("slices", {"name": "test_vit", "img_size": 32}, outputs=2)(volumes()),
            "convolutional network",
        ),
    ],
)
def test_mistakes_are_answered(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
