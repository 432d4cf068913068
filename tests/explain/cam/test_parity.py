"""Our maps against those of the public grad-cam package, same weights and inputs."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import seewhy.explain as explain

theirs = pytest.importorskip("pytorch_grad_cam")

METHODS = {
    "GradCAM": "GradCAM",
    "GradCAMPlusPlus": "GradCAMPlusPlus",
    "HiResCAM": "HiResCAM",
    "XGradCAM": "XGradCAM",
    "LayerCAM": "LayerCAM",
}
TARGETS = [1, 4, 0]


def stretched(maps):
    """Evidence [B, *spatial] as the package presents it: each map from 0 to 1, an empty one empty."""
    found = maps.evidence()["image"].flatten(1).numpy()
    found = found - found.min(axis=1, keepdims=True)
    return (found / found.max(axis=1, keepdims=True).clip(1e-30)).reshape(maps.evidence()["image"].shape)


def package(name, net, layer, image, targets, **options):
    output = theirs.utils.model_targets.ClassifierOutputTarget
    with getattr(theirs, name)(net, [net.get_submodule(layer)], **options) as method:
        return method(image, None if targets is None else [output(target) for target in targets])


def built(name):
    """A backbone with random weights and batch statistics that fit them (otherwise activations vanish)."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(name, in_chans=1, num_classes=5)
    with torch.no_grad():
        for _ in range(12):
            net(torch.randn(8, 1, 64, 64))
    return net.eval()


@pytest.fixture(scope="module")
def efficientnet():
    return built("efficientnet_b0")


@pytest.fixture(scope="module")
def resnet():
    return built("resnet18")


@pytest.fixture(scope="module")
def image():
    return torch.randn(3, 1, 96, 128, generator=torch.Generator().manual_seed(1))


def louder(net, factor=100):
    """The same with scores so large that the 1e-7 which the package adds to each maximum does not show."""
    net = copy.deepcopy(net)
    net.get_classifier().weight.data.mul_(factor)
    return net


@pytest.mark.parametrize("layer", ["layer4", "layer2"])
@pytest.mark.parametrize("ours", METHODS)
def test_equals_grad_cam(resnet, image, ours, layer):
    net = louder(resnet)
    maps = getattr(explain, ours)(layers=layer)(net, image, target=TARGETS)
    assert np.abs(stretched(maps) - package(METHODS[ours], net, layer, image, TARGETS)).max() < 1e-5


@pytest.mark.parametrize("layer", ["bn2", "blocks.2"])
@pytest.mark.parametrize("ours", ["GradCAM", "HiResCAM", "LayerCAM"])
def test_equals_grad_cam_after_silu(efficientnet, image, ours, layer):
    """Those that do not divide by sums of activations, which cancel after SiLU: their last digits are noise."""
    net = louder(efficientnet)
    maps = getattr(explain, ours)(layers=layer)(net, image, target=TARGETS)
    assert np.abs(stretched(maps) - package(METHODS[ours], net, layer, image, TARGETS)).max() < 1e-5


@pytest.mark.parametrize("layer", ["bn2", "blocks.2"])
def test_finer_cam_equals_grad_cam(efficientnet, image, layer):
    maps = explain.FinerCAM(layers=layer)(efficientnet, image)
    reference = package("FinerCAM", efficientnet, layer, image, None)
    # Their softmax weights are divided by a sum to which 1e-9 is added, their maxima by a sum with 1e-7.
    peak = maps.evidence()["image"].amax(dim=(1, 2)).min().item()
    assert np.abs(stretched(maps) - reference).max() < max(1e-5, 2e-7 / peak)


@pytest.mark.parametrize("layer", ["bn2", "blocks.2"])
def test_eigen_cam_equals_grad_cam_up_to_its_sign(efficientnet, image, layer):
    maps = explain.EigenCAM(layers=layer)(efficientnet, image).maps["image"]
    with theirs.EigenCAM(efficientnet, [efficientnet.get_submodule(layer)]) as method:
        method(image, None)
        seen = method.activations_and_grads.activations[0].numpy()
    reference = torch.from_numpy(theirs.utils.svd_on_activations.get_2d_projection(seen))
    sign = (reference * torch.from_numpy(seen).mean(dim=1)).sum(dim=(1, 2)).sign()[:, None, None]
    enlarged = nn.functional.interpolate((sign * reference)[None], size=maps.shape[1:], mode="bilinear")[0]
    assert (maps - enlarged).abs().max() < 1e-5 * enlarged.abs().max()


def test_score_cam_equals_grad_cam_where_nothing_is_enlarged(nets, image):
    # The package enlarges by another rule for masks than for maps, so only a layer of the image's own size compares.
    net = nets.Net(classes=5, strides=(1, 1)).eval()
    maps = explain.ScoreCAM(layers="features.4")(net, image, target=TARGETS)
    assert np.abs(stretched(maps) - package("ScoreCAM", net, "features.4", image, TARGETS)).max() < 1e-5


@pytest.mark.parametrize("ours", METHODS)
def test_volumes_equal_grad_cam_before_enlarging(nets, ours):
    """The package enlarges volumes by cubic splines, so this compares a layer of the volume's own size."""
    volume = torch.randn(2, 1, 6, 8, 10, generator=torch.Generator().manual_seed(1))
    net = nets.Net(3, strides=(1, 1)).eval()
    net.head[-1].weight.data.mul_(100)
    maps = getattr(explain, ours)(layers="features.4")(net, volume, target=[2, 0])
    reference = package(METHODS[ours], net, "features.4", volume, [2, 0])
    assert reference.shape == volume[:, 0].shape
    assert np.abs(stretched(maps) - reference).max() < 1e-5


@pytest.mark.parametrize("ours", ["GradCAM", "HiResCAM", "LayerCAM"])
def test_tokens_of_a_transformer_need_no_transform(ours):
    """Those that do not divide by sums of activations, which cancel after a norm: their last digits are noise."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    net = timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), in_chans=1, num_classes=5).eval()
    net.head.weight.data.mul_(1000)
    image = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))

    def reshape(tokens):
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, 4, 6)

    layer = "blocks.11.norm1"
    maps = getattr(explain, ours)(layers=layer)(net, image, target=[1, 3])
    reference = package(METHODS[ours], net, layer, image, [1, 3], reshape_transform=reshape)
    given = getattr(explain, ours)(layers=layer, reshape=reshape)(net, image, target=[1, 3])
    assert torch.equal(maps.maps["image"], given.maps["image"])
    assert np.abs(stretched(maps) - reference).max() < 1e-5
